"""Where a fault plan comes true: what the handlers ask at the few places where the service can misbehave.

Without a plan `Emulator.faults` is None, and each of these ends at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.fault_matching import seen
from emulator.fault_plan import Faults
from emulator.faults import CODES, Cluster, Conflict, Lost, Provisioning, Refuse, Scoring, Slow
from emulator.resources import BUSY_STATES
from emulator.routing import Call
from emulator.store import Resource

POLL_SECONDS = 0.05
WIRE = "emulator.send"  # where the application keeps it in the scope of a request


def refused(faults: Faults, method: str, host: str, path: str) -> Response | None:
    """An error instead of the answer, before anything is done (kind status)."""
    fault = faults.strike(Refuse, seen(method, host, path))
    if fault is None:
        return None
    error = ArmError(fault.status, CODES[fault.status], f"The fault plan has '{fault.name}' answer this request.")
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return JSONResponse(error.body(), fault.status, headers)


def lost(faults: Faults, method: str, host: str, path: str) -> bool:
    """Whether this answer, though all is done, is not to arrive (kind lost)."""
    return faults.strike(Lost, seen(method, host, path)) is not None


def hang_up(request: Request) -> None:
    """Close the connection within the first line of the answer, so that the client cannot know what it says.

    Closed before that, it would read like a proxy that does not answer (urllib3), and the SDK would take the request
    for one that never arrived. ASGI knows no such thing; uvicorn's `send` is a method of what holds the connection.
    """
    transport = request.scope[WIRE].__self__.transport
    transport.write(b"HTTP/1.1 ")
    transport.close()


def pace(call: Call, operation: str) -> float | None:
    """How long the operation takes (kind slow); None: as long as ever."""
    faults = call.emulator.faults
    fault = faults.strike(Slow, seen(call.method, call.host, call.path, operation)) if faults else None
    return fault.seconds if fault else None


def refuse_conflict(call: Call, endpoint: str) -> None:
    """ArmError 409 while another operation is under way (kind conflict). `endpoint` is its ARM id.

    "When an operation is already in progress, any new operation on that same online endpoint responds with a 409
    conflict error" (https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints).
    """
    faults, store = call.emulator.faults, call.emulator.store
    if faults is None:
        return
    about = seen(call.method, call.host, call.path)
    near = next(filter(_busy, [store.get(endpoint), store.get(f"{endpoint}/deployments/{about.deployment}")]), None)
    busy = near or next(filter(_busy, store.children(f"{endpoint}/deployments")), None)
    if busy and (fault := faults.strike(Conflict, about, lambda fault: near is not None or fault.scope == "endpoint")):
        message = f"'{busy['name']}' is {busy['properties']['provisioningState']}: wait for that operation to end"
        raise ArmError(409, "Conflict", f"{message} ({fault.name}).")


def _busy(resource: Resource | None) -> bool:
    return resource is not None and resource["properties"]["provisioningState"] in BUSY_STATES


def hold_up(call: Call, operation: str, stop: Callable[[], bool]) -> Callable[[], None]:
    """What comes before a deployment's server is started (kind provisioning): nothing, a failure, or a long wait.

    A stuck one waits until its fault is gone from the plan or reads otherwise, when the plan is asked again, or until
    `stop` says that nobody needs it any more.
    """
    faults = call.emulator.faults
    if faults is None:
        return lambda: None
    about = seen(call.method, call.host, call.path, operation)
    first = faults.strike(Provisioning, about)

    def wait() -> None:
        fault = first
        while fault and fault.ends == "stuck":
            while faults.holds(fault):
                if stop():
                    raise ArmError(409, "OperationAborted", "The deployment was deleted while it was stuck.")
                time.sleep(POLL_SECONDS)
            fault = faults.strike(Provisioning, about)
        if fault:
            raise ArmError(400, fault.code, fault.message)

    return wait


def break_cluster(call: Call) -> ArmError | None:
    """What the provisioning of a cluster ends with (kind cluster), None when it succeeds."""
    faults = call.emulator.faults
    fault = faults.strike(Cluster, seen(call.method, call.host, call.path)) if faults else None
    return ArmError(400, fault.code, fault.message) if fault else None


async def scored(call: Call, deployment_id: str) -> httpx.Response | None:
    """A container's answer made up by the plan (kind scoring), after its delay; None: ask the real one.

    ArmError for a status of the service's own. Whoever hangs is cancelled by the deployment's request timeout.
    """
    about = replace(seen("", "", deployment_id), method=call.method, host=call.host, path=call.path)
    if call.emulator.faults is None or (fault := call.emulator.faults.strike(Scoring, about)) is None:
        return None
    if fault.hang:
        await asyncio.Event().wait()
    if fault.status:
        raise ArmError(fault.status, CODES[fault.status], f"The fault plan has '{fault.name}' answer this request.")
    if fault.model_status:
        return httpx.Response(fault.model_status, text=f"The fault plan has '{fault.name}' answer this request.")
    await asyncio.sleep(fault.seconds or 0)
    return None
