"""Long-running operations as ARM does them: the answer comes at once, the work runs on, the client polls.

A poll waits up to POLL_SECONDS for the end (a long poll), so a short operation costs the client no sleep at all.
Between polls the client is told 200 ms; azure-core takes `Retry-After: 0` for "no header" and then waits 30 s.
"""

from __future__ import annotations

import logging
import re
import threading
import uuid
from collections.abc import Callable

from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.resources import PROVIDER, utc_now
from emulator.routing import ARM, Call, route
from emulator.store import Resource, Store

POLL_SECONDS = 2.0
RETRY = {"x-ms-retry-after-ms": "200"}
STATUS = r"(?P<base>/subscriptions/[^/]+/providers/Microsoft\.MachineLearningServices/locations/[^/]+)"
log = logging.getLogger(__name__)


class Operations:
    def __init__(self, store: Store, region: str, default_seconds: float) -> None:
        self._store, self._region, self._seconds = store, region, default_seconds
        self._ended: dict[str, threading.Event] = {}
        self._stopping = threading.Event()
        self._abandon_unfinished()

    def start(self, call: Call, kind: str, work: Callable[[], None], *, seconds: float | None = None) -> dict[str, str]:
        """Run `work` in a thread after `seconds` (default: the setting); returns the headers the client polls with.

        An ArmError in `work` ends the operation as Failed with its code and message; any other error as
        InternalServerError. `work` itself sets the provisioning state of what it makes.
        """
        base = f"/subscriptions/{call.args['sub']}/providers/{PROVIDER}/locations/{self._region}"
        name = self.begin(f"{base}/mfeOperationsStatus", kind, work, seconds=seconds)
        version, host = call.query.get("api-version", "2023-04-01"), call.emulator.settings.arm
        return {
            "Azure-AsyncOperation": f"{host}{base}/mfeOperationsStatus/{name}?api-version={version}",
            "Location": f"{host}{base}/mfeOperationResults/{name}?api-version={version}",
            **RETRY,
        }

    def begin(self, base: str, kind: str, work: Callable[[], None], *, seconds: float | None = None) -> str:
        """Like `start`, with the operation kept at `base`/NAME; returns NAME."""
        name = f"{kind}:{uuid.uuid4()}"
        operation = f"{base}/{name}"
        self._store.put(operation, {"id": operation, "name": name, "status": "InProgress", "startTime": utc_now()})
        self._ended[name] = threading.Event()
        delay = self._seconds if seconds is None else seconds
        threading.Thread(target=self._run, args=(operation, name, work, delay), name=name, daemon=True).start()
        return name

    def wait(self, name: str, seconds: float = POLL_SECONDS) -> None:
        """Return when the operation has ended or the time is up; at once for one that this process did not start."""
        if ended := self._ended.get(name):
            ended.wait(seconds)

    def stop(self) -> None:
        """Work that has not begun never will; pollers are let go."""
        self._stopping.set()
        for ended in list(self._ended.values()):
            ended.set()

    def _run(self, operation: str, name: str, work: Callable[[], None], delay: float) -> None:
        try:
            if self._stopping.wait(delay):
                return
            outcome = _outcome(work)
            self._store.update(operation, lambda found: found.update(outcome, endTime=utc_now()))
        finally:
            self._ended[name].set()

    def _abandon_unfinished(self) -> None:
        """After a restart nobody works on the operations of the last run: say so, or their clients poll forever."""
        error = {"code": "OperationAborted", "message": "The local Azure ML was restarted.", "details": []}
        for operation in self._store.find(r".*/(?:mfeOperationsStatus|operationStatuses)/[^/]+"):
            if operation["status"] == "InProgress":
                self._store.put(operation["id"], {**operation, "status": "Failed", "error": error})


def _outcome(work: Callable[[], None]) -> Resource:
    try:
        work()
    except ArmError as error:
        return {"status": "Failed", "error": {**error.body()["error"], "additionalInfo": []}}  # type: ignore[dict-item]
    except Exception as error:
        log.exception("an operation failed in an unexpected way")
        return {"status": "Failed", "error": {"code": "InternalServerError", "message": repr(error), "details": []}}
    return {"status": "Succeeded", "percentComplete": 100}


@route("GET", ARM, STATUS + r"/mfeOperationsStatus/(?P<name>[^/]+)")
def status(call: Call) -> Response:
    call.emulator.operations.wait(call.args["name"])
    operation = call.emulator.store.need(call.path, "Operation")
    return JSONResponse(operation, headers=RETRY if operation["status"] == "InProgress" else None)


@route("GET", ARM, STATUS + r"/mfeOperationResults/(?P<name>[^/]+)")
def result(call: Call) -> Response:
    call.emulator.operations.wait(call.args["name"])
    path = re.sub("mfeOperationResults", "mfeOperationsStatus", call.path, flags=re.IGNORECASE)
    running = call.emulator.store.need(path, "Operation")["status"] == "InProgress"
    return Response(status_code=202, headers=RETRY) if running else Response(status_code=200)
