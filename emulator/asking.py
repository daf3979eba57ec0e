"""Asks a deployment's container under the deployment's limits, and dresses its answer as the service does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import httpx
from starlette.responses import PlainTextResponse, Response

from emulator.backends import Backend
from emulator.endpoint_rules import seconds
from emulator.errors import ArmError
from emulator.fault_injection import scored
from emulator.gate import Busy
from emulator.passing_on import ClientGone, PassedOn, is_stream, unless_gone
from emulator.routing import Call
from emulator.runtime import Runtime
from emulator.store import Resource

HEADER = "azureml-model-deployment"
HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}
    | {"proxy-authorization", "host", "content-length", "authorization", "accept-encoding", "content-encoding"}
    | {"server", "date", HEADER}
)
CLIENT_GONE = 499  # in the log alone, as gateways call it


@dataclass(frozen=True)
class Outcome:
    response: Response
    model_status: int = 0


async def ask(runtime: Runtime, call: Call, deployment: Resource, backend: Backend) -> Outcome:
    """The container's answer, or the service's own when there is none. A stream has its end still before it."""
    settings = deployment["properties"]["requestSettings"]
    timeout = seconds(settings["requestTimeout"], "requestTimeout")
    queue_wait = deployment.get("_queue_wait")
    wait = min(timeout, seconds(queue_wait, "maxQueueWait")) if queue_wait else timeout
    limit = int(settings["maxConcurrentRequestsPerInstance"]) * int(deployment["sku"].get("capacity") or 1)
    deadline = time.monotonic() + timeout
    try:
        await backend.gate.enter(limit, wait)
    except Busy:
        return _said(429, "Too many pending requests")
    except TimeoutError:
        return _said(429, "Too many pending requests") if wait < timeout else _said(408, "upstream request timeout")
    outcome = Outcome(Response(status_code=CLIENT_GONE))
    try:
        outcome = await _answered(runtime, call, deployment, backend, deadline)
    finally:
        when_sent(outcome.response, backend.gate.leave)
    return outcome


async def _answered(runtime: Runtime, call: Call, deployment: Resource, backend: Backend, deadline: float) -> Outcome:
    try:
        asked = unless_gone(_sent(runtime, call, deployment, backend), call.gone)
        answer = await asyncio.wait_for(asked, max(deadline - time.monotonic(), 0.001))
    except ClientGone:
        return Outcome(Response(status_code=CLIENT_GONE))
    except TimeoutError:
        return _said(408, "upstream request timeout")
    except ArmError as refused:
        return _said(refused.status, refused.message)
    except httpx.HTTPError:
        return _said(502, "upstream connect error or disconnect/reset before headers")
    if is_stream(answer):
        return Outcome(PassedOn(answer, _headers(answer), deadline), answer.status_code)
    return Outcome(_dressed(answer), answer.status_code)


def _said(status: int, text: str) -> Outcome:
    return Outcome(PlainTextResponse(text, status))


def when_sent(response: Response, what: Callable[[], None]) -> None:
    """Do it at the end of a stream; everything else is as good as sent."""
    if isinstance(response, PassedOn):
        response.after.append(what)
    else:
        what()


async def _sent(runtime: Runtime, call: Call, deployment: Resource, backend: Backend) -> httpx.Response:
    if runtime.emulator.faults and (made_up := await scored(call, deployment["id"])):
        return made_up
    query = f"?{call.raw_query}" if call.raw_query else ""
    url = f"http://127.0.0.1:{backend.port}{call.raw_path}{query}"
    headers = {name: value for name, value in call.headers.items() if name.lower() not in HOP}
    http = runtime.http()
    answer = await http.send(http.build_request(call.method, url, content=call.body, headers=headers), stream=True)
    if not is_stream(answer):
        try:
            await answer.aread()
        finally:
            await answer.aclose()
    return answer


def _dressed(answer: httpx.Response) -> Response:
    """The container's answer for the client: anything but 200 is 424, with the model's own status in headers."""
    headers = _headers(answer)
    if answer.status_code == 200:
        return Response(answer.content, 200, headers)
    known = {status.value: status.phrase for status in HTTPStatus}
    headers["ms-azureml-model-error-statuscode"] = str(answer.status_code)
    headers["ms-azureml-model-error-reason"] = answer.reason_phrase or known.get(answer.status_code, "model_error")
    return Response(answer.content, 424, headers)


def _headers(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() not in HOP}
