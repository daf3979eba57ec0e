"""What jobs and deployments hold in memory while the emulator runs: processes, their gates, the traffic log.

It is made on first use, and then everything that was cut short by the last stop is put right (`on_start`), before any
handler can show it: that is why every handler of a job or an endpoint begins with `runtime_of`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from emulator.context import Emulator
from emulator.traffic_log import TrafficLog

if TYPE_CHECKING:
    from emulator.backends import Backend
    from emulator.job_runner import JobRun
    from emulator.sweeps import SweepRun

log = logging.getLogger(__name__)
# Shorter than gunicorn's default of two seconds: a connection that the server is just closing loses the request.
IDLE_CONNECTION_SECONDS = 1.0


@dataclass
class RunNames:
    """The MLflow runs of a workspace's jobs. Two workspaces may well have a job of the same name."""

    of_job: dict[str, str] = field(default_factory=dict)  # job name -> run id of the plain MLflow server
    of_run: dict[str, str] = field(default_factory=dict)  # and back

    def remember(self, job: str, run_id: str) -> None:
        self.of_job[job], self.of_run[run_id] = run_id, job


@dataclass
class Runtime:
    """Keys of `jobs` and `backends` are lower-case ARM ids. One per emulator."""

    emulator: Emulator
    traffic: TrafficLog
    jobs: dict[str, JobRun | SweepRun] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)
    restarting: set[str] = field(default_factory=set)  # deployments whose servers are on their way back
    endpoint_ids: dict[str, str] = field(default_factory=dict)  # host name's first label -> ARM id
    runs: dict[str, RunNames] = field(default_factory=dict)  # by lower-case ARM id of the workspace
    lock: threading.RLock = field(default_factory=threading.RLock)
    _http: httpx.AsyncClient | None = None

    def http(self) -> httpx.AsyncClient:
        """The client of the pass-throughs. Call it from the server's event loop only: connections belong to a loop."""
        if self._http is None:
            limits = httpx.Limits(
                max_connections=None, max_keepalive_connections=64, keepalive_expiry=IDLE_CONNECTION_SECONDS
            )
            self._http = httpx.AsyncClient(trust_env=False, timeout=None, limits=limits)  # noqa: S113 (each call has one)
        return self._http

    @property
    def stopping(self) -> bool:
        """Whether the emulator is being taken down: its parts go first, so jobs fail that did nothing wrong."""
        return self.emulator.operations._stopping.is_set()

    def runs_of(self, wsid: str) -> RunNames:
        return self.runs.setdefault(wsid.lower(), RunNames())


Starter = Callable[[Runtime], None]
_STARTERS: list[Starter] = []
_RUNTIMES: dict[Path, Runtime] = {}
_LOCK = threading.RLock()


def on_start(starter: Starter) -> Starter:
    """Register what has to happen before the first request about jobs or endpoints is answered."""
    _STARTERS.append(starter)
    return starter


def runtime_of(emulator: Emulator) -> Runtime:
    """The emulator's runtime; made, and the starters run, when it is asked for the first time."""
    found = _RUNTIMES.get(emulator.settings.home)
    if found is not None and found.emulator is emulator:
        return found
    with _LOCK:
        found = _RUNTIMES.get(emulator.settings.home)
        if found is not None and found.emulator is emulator:
            return found
        runtime = Runtime(emulator, TrafficLog(emulator.settings.home / "traffic.db"))
        for starter in _STARTERS:
            try:
                starter(runtime)
            except Exception:
                log.exception("%s failed", starter.__name__)
        _RUNTIMES[emulator.settings.home] = runtime
    return runtime
