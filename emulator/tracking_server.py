"""MLflow's tracking server, started by whoever needs it first: a job, or a client that asks for runs.

Importing it takes two seconds of a processor, and a session without jobs (endpoints, models, data sets) never needs it.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from emulator import children
from emulator.errors import ArmError

if TYPE_CHECKING:
    from emulator.context import Settings

START_SECONDS = 60.0
Start = Callable[[children.Child], "subprocess.Popen[bytes]"]


class TrackingServer:
    def __init__(self, settings: Settings, start: Start) -> None:
        self._settings, self._start = settings, start
        self._lock = threading.Lock()
        self._ready = False

    def address(self) -> str:
        """Where it answers. The first call starts it and waits; ArmError 503 when it does not come up."""
        with self._lock:
            if not self._ready:
                self._bring_up()
        return f"http://127.0.0.1:{self._settings.mlflow_port}"

    def _bring_up(self) -> None:
        child = children.mlflow_server(self._settings)
        process, deadline = self._start(child), time.monotonic() + START_SECONDS
        while not children.healthy(child, self._settings.ca):
            if process.poll() is not None or time.monotonic() > deadline:
                log = self._settings.home / "logs" / "mlflow.log"
                raise ArmError(503, "ServiceUnavailable", f"The tracking server did not start; see {log}.")
            time.sleep(0.05)
        self._ready = True
