"""The scoring host of an endpoint: who may call, which deployment answers, and what Azure makes of its answer.

Statuses: https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints (HTTP status codes).
Everything here runs on the event loop and only waits for the model, so slow answers do not hold up others. A stream
goes on piece by piece, and counts once, when it ends; who leaves takes the container's work for it along.
"""

from __future__ import annotations

import asyncio
import hmac
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace

from starlette.responses import PlainTextResponse, Response

from emulator.asking import HEADER, Outcome, ask, when_sent
from emulator.backends import Backend
from emulator.endpoint_rules import MAX_REQUEST_SECONDS
from emulator.errors import ArmError
from emulator.identity import AUDIENCES
from emulator.passing_on import PassedOn
from emulator.roles import may
from emulator.routing import SCORING, Call, route
from emulator.runtime import Runtime, runtime_of
from emulator.store import Resource
from emulator.traffic_log import Row

SCORE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action"
_DICE = random.Random()  # noqa: S311 (chance, not secrecy)
_MIRRORED: set[asyncio.Task[None]] = set()  # a task nobody holds may be collected before it ends


@route("GET|POST|PUT|PATCH|DELETE|HEAD", SCORING, r"/.*", audience=None)
async def score(call: Call) -> Response:
    started, at = time.perf_counter(), time.time()
    runtime, request_id = runtime_of(call.emulator), str(uuid.uuid4())
    endpoint = _endpoint(runtime, call.host)
    if endpoint is None:
        return PlainTextResponse("Endpoint not found", 404)
    name = ""
    try:
        _authorize(call, endpoint)
        asked = call.headers.get(HEADER)
        name = asked.lower() if asked else _draw(endpoint["properties"]["traffic"])
        await _until_restarted(runtime, f"{endpoint['id']}/deployments/{name}".lower())
        deployment, backend = _deployment(runtime, endpoint, name)
        if not asked:
            _mirror(runtime, call, endpoint, at)
        outcome = await ask(runtime, call, deployment, backend)
    except ArmError as refused:
        outcome = Outcome(PlainTextResponse(refused.message, refused.status))
    outcome.response.headers["x-ms-request-id"] = request_id
    if name:
        outcome.response.headers[HEADER] = name
    if sent := call.headers.get("x-ms-client-request-id"):
        outcome.response.headers["x-ms-client-request-id"] = sent

    def count() -> None:
        elapsed = (time.perf_counter() - started) * 1000
        status = outcome.response.status_code
        runtime.traffic.add(Row(at, endpoint["id"].lower(), name, status, outcome.model_status, elapsed, 0, request_id))

    when_sent(outcome.response, count)
    return outcome.response


def _endpoint(runtime: Runtime, host: str) -> Resource | None:
    name, store = host.partition(".")[0], runtime.emulator.store
    if name not in runtime.endpoint_ids:
        found = store.find(rf".*/onlineEndpoints/{name}")
        if not found:
            return None
        runtime.endpoint_ids[name] = found[0]["id"]
    return store.get(runtime.endpoint_ids[name])


def _authorize(call: Call, endpoint: Resource) -> None:
    """ArmError 401 unless the bearer is one of the endpoint's keys, or a token that the auth mode accepts.

    An Entra token is accepted of who has a role for it; without one the status is 401 too.
    """
    scheme, _, bearer = call.headers.get("authorization", "").partition(" ")
    mode = endpoint["properties"]["authMode"]
    if scheme.lower() != "bearer" or not bearer:
        what = "key_auth_bad_header_forbidden" if mode == "Key" else "token_auth_bad_header_forbidden"
        raise ArmError(401, "Unauthorized", what)
    if mode == "Key":
        if not any(hmac.compare_digest(bearer.encode(), key.encode()) for key in endpoint["_keys"].values()):
            raise ArmError(401, "Unauthorized", "key_auth_access_denied")
    else:
        audiences = AUDIENCES["ml"] if mode == "AADToken" else (f"https://{call.host}",)
        claims = call.emulator.tokens.verify(bearer, audiences)
        if mode == "AADToken" and not may(call, SCORE, endpoint["id"], principal=str(claims["oid"])):
            raise ArmError(401, "Unauthorized", f"The caller does not have permission to perform action '{SCORE}'.")


def _draw(traffic: Mapping[str, int]) -> str:
    """The deployment for one request, by weight."""
    if not traffic:
        raise ArmError(404, "NotFound", "The endpoint has no deployment with traffic.")
    return _DICE.choices(list(traffic), list(traffic.values()))[0]


async def _until_restarted(runtime: Runtime, target: str) -> None:
    """Right after a restart of the emulator the servers are still loading their models; the service has no such gap."""
    deadline = time.monotonic() + MAX_REQUEST_SECONDS
    while target in runtime.restarting and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


def _deployment(runtime: Runtime, endpoint: Resource, name: str) -> tuple[Resource, Backend]:
    target = f"{endpoint['id']}/deployments/{name}"
    deployment = runtime.emulator.store.get(target)
    if deployment is None:
        raise ArmError(404, "NotFound", f"The specified deployment '{name}' could not be found.")
    backend = runtime.backends.get(target.lower())
    if backend is None or not backend.alive:
        raise ArmError(503, "ServiceUnavailable", f"Deployment '{name}' has no running container.")
    return deployment, backend


def _mirror(runtime: Runtime, call: Call, endpoint: Resource, at: float) -> None:
    """Send a copy to the mirror target, as often as its percentage says; nobody waits for the answer."""
    for name, percent in endpoint["properties"]["mirrorTraffic"].items():
        if _DICE.random() * 100 >= percent:
            continue
        try:
            deployment, backend = _deployment(runtime, endpoint, name)
        except ArmError:
            continue
        task = asyncio.create_task(_send_copy(runtime, call, deployment, backend, at))
        _MIRRORED.add(task)
        task.add_done_callback(_MIRRORED.discard)


async def _send_copy(runtime: Runtime, call: Call, deployment: Resource, backend: Backend, at: float) -> None:
    started = time.perf_counter()
    outcome = await ask(runtime, replace(call, gone=None), deployment, backend)
    if isinstance(outcome.response, PassedOn):
        await outcome.response.drain()
    elapsed = (time.perf_counter() - started) * 1000
    endpoint = deployment["id"].rsplit("/deployments/", 1)[0].lower()
    name, told = deployment["name"].lower(), outcome.model_status
    runtime.traffic.add(Row(at, endpoint, name, 0, told, elapsed, 1, str(uuid.uuid4())))
