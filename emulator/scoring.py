"""The scoring host of an endpoint: who may call, which deployment answers, and what Azure makes of its answer.

Statuses: https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints (HTTP status codes).
Everything here runs on the event loop and only waits for the model, so slow answers do not hold up others.
"""

from __future__ import annotations

import asyncio
import hmac
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import httpx
from starlette.responses import PlainTextResponse, Response

from emulator.backends import Backend
from emulator.endpoint_rules import MAX_REQUEST_SECONDS, seconds
from emulator.errors import ArmError
from emulator.fault_injection import scored
from emulator.gate import Busy
from emulator.identity import AUDIENCES
from emulator.roles import may
from emulator.routing import SCORING, Call, route
from emulator.runtime import Runtime, runtime_of
from emulator.store import Resource
from emulator.traffic_log import Row

HEADER = "azureml-model-deployment"
SCORE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action"
HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}
    | {"proxy-authorization", "host", "content-length", "authorization", "accept-encoding", "content-encoding"}
    | {"server", "date", HEADER}
)
_DICE = random.Random()  # noqa: S311 (chance, not secrecy)
_MIRRORED: set[asyncio.Task[None]] = set()  # a task nobody holds may be collected before it ends


@dataclass(frozen=True)
class Outcome:
    response: Response
    model_status: int = 0


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
        outcome = await _answer(runtime, call, deployment, backend)
    except ArmError as refused:
        outcome = Outcome(PlainTextResponse(refused.message, refused.status))
    outcome.response.headers["x-ms-request-id"] = request_id
    if name:
        outcome.response.headers[HEADER] = name
    if sent := call.headers.get("x-ms-client-request-id"):
        outcome.response.headers["x-ms-client-request-id"] = sent
    elapsed = (time.perf_counter() - started) * 1000
    status = outcome.response.status_code
    runtime.traffic.add(Row(at, endpoint["id"].lower(), name, status, outcome.model_status, elapsed, 0, request_id))
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


async def _answer(runtime: Runtime, call: Call, deployment: Resource, backend: Backend) -> Outcome:
    """Ask the container under the deployment's limits, and dress its answer as the service does."""
    settings = deployment["properties"]["requestSettings"]
    timeout = seconds(settings["requestTimeout"], "requestTimeout")
    queue_wait = deployment.get("_queue_wait")
    wait = min(timeout, seconds(queue_wait, "maxQueueWait")) if queue_wait else timeout
    limit = int(settings["maxConcurrentRequestsPerInstance"]) * int(deployment["sku"].get("capacity") or 1)
    began = time.perf_counter()
    try:
        await backend.gate.enter(limit, wait)
    except Busy:
        return Outcome(PlainTextResponse("Too many pending requests", 429))
    except TimeoutError:
        status, text = (429, "Too many pending requests") if wait < timeout else (408, "upstream request timeout")
        return Outcome(PlainTextResponse(text, status))
    try:
        left = timeout - (time.perf_counter() - began)
        answer = await asyncio.wait_for(_ask(runtime, call, deployment, backend), max(left, 0.001))
    except TimeoutError:
        return Outcome(PlainTextResponse("upstream request timeout", 408))
    except ArmError as refused:
        return Outcome(PlainTextResponse(refused.message, refused.status))
    except httpx.HTTPError:
        return Outcome(PlainTextResponse("upstream connect error or disconnect/reset before headers", 502))
    finally:
        backend.gate.leave()
    return Outcome(_dressed(answer), answer.status_code)


async def _ask(runtime: Runtime, call: Call, deployment: Resource, backend: Backend) -> httpx.Response:
    if runtime.emulator.faults and (made_up := await scored(call, deployment["id"])):
        return made_up
    query = f"?{call.raw_query}" if call.raw_query else ""
    url = f"http://127.0.0.1:{backend.port}{call.raw_path}{query}"
    headers = {name: value for name, value in call.headers.items() if name.lower() not in HOP}
    return await runtime.http().request(call.method, url, content=call.body, headers=headers)


def _dressed(answer: httpx.Response) -> Response:
    """The container's answer for the client: anything but 200 is 424, with the model's own status in headers."""
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in HOP}
    if answer.status_code == 200:
        return Response(answer.content, 200, headers)
    known = {status.value: status.phrase for status in HTTPStatus}
    headers["ms-azureml-model-error-statuscode"] = str(answer.status_code)
    headers["ms-azureml-model-error-reason"] = answer.reason_phrase or known.get(answer.status_code, "model_error")
    return Response(answer.content, 424, headers)


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
    outcome = await _answer(runtime, call, deployment, backend)
    elapsed = (time.perf_counter() - started) * 1000
    endpoint = deployment["id"].rsplit("/deployments/", 1)[0].lower()
    name, told = deployment["name"].lower(), outcome.model_status
    runtime.traffic.add(Row(at, endpoint, name, 0, told, elapsed, 1, str(uuid.uuid4())))
