"""Child processes that cannot outlive the emulator.

Each runs in a process group of its own, carries the session's mark in its environment, and (Linux) is killed by the
kernel when the emulator dies. Whatever slips through, a grandchild of something killed with -9, is found by the mark.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MARK = "EMULATOR_SESSION"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def dies_with_parent() -> Callable[[], None] | None:
    """For `preexec_fn`: the kernel kills the child when the *thread* that forked it ends. None without prctl."""
    if sys.platform != "linux":
        return None
    prctl, parent, kill = ctypes.CDLL(None).prctl, os.getpid(), signal.SIGKILL

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, kill)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os._exit(1)

    return arrange


class Processes:
    """Starts and stops children. One long-lived thread forks, or the kernel would kill them when a worker ends."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")
        self._running: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> subprocess.Popen[bytes]:
        """Start `argv` with exactly `env` (plus the mark); output goes to the end of `log`. OSError as it comes."""
        return self._spawner.submit(self._spawn, name, list(argv), {**env, MARK: self._session}, cwd, log).result()

    def _spawn(self, name: str, argv: list[str], env: dict[str, str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
        log.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, log.open("ab") as output:
            if self._stopped:
                raise RuntimeError(f"{name} is not started: the emulator is stopping")
            process = subprocess.Popen(
                argv,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dies_with_parent(),  # noqa: PLW1509 (one spawner thread; the function only calls prctl)
            )
            self._running[process.pid] = (name, process)
        return process

    def stop(self, proc: subprocess.Popen[bytes], grace: float = 5.0) -> None:
        """End the whole process group: SIGTERM, up to `grace` seconds, SIGKILL. Harmless for one that has ended."""
        end_group(proc.pid, grace, proc.poll)
        with self._lock:
            self._running.pop(proc.pid, None)

    def stop_all(self) -> None:
        """End everything at once and start nothing more."""
        with self._lock:
            self._stopped = True
            running = [process for _, process in self._running.values()]
        with ThreadPoolExecutor(max_workers=max(1, len(running))) as pool:
            list(pool.map(self.stop, running))
        sweep(self._session)

    def ended(self) -> dict[str, int]:
        """Exit codes by name of the children that have ended without being stopped."""
        with self._lock:
            return {name: code for name, process in self._running.values() if (code := process.poll()) is not None}


def end_group(group: int, grace: float, reap: Callable[[], object] = lambda: None) -> None:
    """SIGTERM to a process group, SIGKILL to what is left after `grace` seconds; `reap` collects our own child."""
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 2.0)):
        deadline = time.monotonic() + seconds
        asked = False
        while time.monotonic() < deadline:
            reap()
            try:
                os.killpg(group, 0 if asked else number)
            except (ProcessLookupError, PermissionError):
                return
            asked = True
            time.sleep(0.02)


def marked(session: str) -> list[int]:
    """Pids of all live processes that carry the session's mark, this one left out."""
    import psutil

    pids = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(MARK) == session:
                pids.append(process.pid)
    return pids


def sweep(session: str, keep: frozenset[int] = frozenset()) -> int:
    """Kill every process that carries the session's mark (except this one and `keep`); returns how many there were."""
    if not session:
        return 0
    killed = 0
    for _ in range(5):  # a process may fork while we look
        pids = [pid for pid in marked(session) if pid not in keep]
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.02)
    return killed
