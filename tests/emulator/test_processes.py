"""Children: whole groups end, nothing outlives the parent, and strays are found by their mark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from emulator.processes import MARK, Processes, free_port, marked, sweep

ROOT = Path(__file__).parents[2]
SLEEPER = ["bash", "-c", "sleep 300 & sleep 300"]
STUBBORN = ["bash", "-c", "trap '' TERM; sleep 300 & while true; do sleep 0.1; done"]


def eventually(check: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def processes() -> Iterator[Processes]:
    one = Processes(f"test-{os.getpid()}-{time.monotonic_ns()}")
    yield one
    one.stop_all()


def start(processes: Processes, argv: list[str], folder: Path) -> subprocess.Popen[bytes]:
    env = {"PATH": os.environ["PATH"], "GIVEN": "yes"}
    return processes.start("child", argv, env=env, cwd=folder, log=folder / "logs" / "child.log")


def test_a_child_gets_its_environment_and_log_and_no_more(processes: Processes, tmp_path: Path) -> None:
    process = start(processes, ["env"], tmp_path)
    assert process.wait(10) == 0
    lines = (tmp_path / "logs" / "child.log").read_text().splitlines()
    assert {line.split("=")[0] for line in lines} <= {"PATH", "GIVEN", MARK, "PWD", "SHLVL", "_"}
    assert processes.ended() == {"child": 0}


@pytest.mark.parametrize("argv", [SLEEPER, STUBBORN])
def test_stop_ends_the_whole_group(processes: Processes, tmp_path: Path, argv: list[str]) -> None:
    process = start(processes, argv, tmp_path)
    session = process.pid
    assert eventually(lambda: len(psutil.Process(session).children()) >= 1)
    processes.stop(process, grace=0.5)
    assert process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(session, 0)


def test_nothing_starts_while_stopping(processes: Processes, tmp_path: Path) -> None:
    start(processes, SLEEPER, tmp_path)
    processes.stop_all()
    with pytest.raises(RuntimeError):
        start(processes, SLEEPER, tmp_path)


def test_a_child_outlives_the_thread_that_asked_for_it(processes: Processes, tmp_path: Path) -> None:
    import threading

    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(start(processes, SLEEPER, tmp_path)))
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert started[0].poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it on Linux alone")
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from emulator.processes import Processes; import os\n"
        "child = Processes('mark-of-a-test').start('c', ['sleep', '300'], env=dict(os.environ), cwd=Path('.'), "
        f"log=Path({str(tmp_path)!r}) / 'log')\nprint(child.pid, flush=True); time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_sweep_finds_strays_of_its_session_alone(tmp_path: Path) -> None:
    mine, other = f"mine-{os.getpid()}", f"other-{os.getpid()}"
    strays = [
        subprocess.Popen(["sleep", "300"], env={**os.environ, MARK: mark}, start_new_session=True, cwd=tmp_path)
        for mark in (mine, mine, other)
    ]
    try:
        assert eventually(lambda: len(marked(mine)) == 2)
        assert sweep(mine) == 2
        assert [stray.wait(5) for stray in strays[:2]] == [-9, -9]
        assert strays[2].poll() is None
        assert sweep("") == 0
    finally:
        strays[2].kill()
        strays[2].wait()


def test_free_ports_are_free() -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))
