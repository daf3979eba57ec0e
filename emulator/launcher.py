"""Starting and stopping the emulator from a shell: `python -m emulator run -- CMD`, `up`, `down`, `status`, `env` …

Only the standard library is imported here, so that the slow part, `serve`, starts at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.child_env import command_environment
from emulator.command import UNSET, Command, command_env
from emulator.context import Settings
from emulator.errors import EmulatorError
from emulator.home import RUN, claim, is_running, recover, saved_settings, wipe
from emulator.processes import MARK

__all__ = ["Options", "clean", "command_env", "down", "env", "run", "start_serve", "status", "stop_serve", "up"]

STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Options:
    home: Path
    ports: dict[str, int]
    operation_seconds: float
    faults: Path | None = None  # the fault plan


def start_serve(options: Options, *, detached: bool) -> subprocess.Popen[bytes]:
    """Start `serve` and return when it is ready. EmulatorError with its sentence when it is not going to be."""
    argv = [sys.executable, "-m", "emulator", "serve", "--home", str(options.home)]
    argv += ["--operation-seconds", str(options.operation_seconds)]
    if options.faults:
        argv += ["--faults", str(options.faults.absolute())]
    for name, port in options.ports.items():
        argv += [f"--{name.replace('_', '-')}", str(port)]
    if not detached:
        argv.append("--follow-stdin")
    claim(options.home)
    log = options.home / "logs" / "serve.log"
    log.parent.mkdir(exist_ok=True)
    root = str(Path(__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
    env.pop(MARK, None)
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the command; serve is stopped by our end of the pipe closing
        )
    assert process.stdout is not None  # noqa: S101
    try:
        line = process.stdout.readline()
    except BaseException:
        stop_serve(process, options.home)
        raise
    message: dict[str, Any] = json.loads(line) if line.strip() else {}
    if "ready" not in message:
        stop_serve(process, options.home)
        tail = f"The local Azure ML did not start; see {log}."
        raise EmulatorError(message.get("error", tail))
    return process


def stop_serve(process: subprocess.Popen[bytes], home: Path) -> None:
    """Close the pipe, which stops it; kill it after STOP_SECONDS, and sweep what it left if it did not end well."""
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
    if process.stdin is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.returncode != 0 and not is_running(home):  # it may not have come to its own sweeping
        recover(home)


def run(options: Options, argv: list[str]) -> int:
    """Start an emulator of its own, run `argv` against it, stop everything; the exit code is the command's.

    The state is kept for inspection until the next `run`, which begins with an empty one.
    """
    if not argv:
        raise EmulatorError("Say what to run: python -m emulator run -- COMMAND [ARGUMENT …].")
    wipe(options.home)
    interrupted = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    serve = start_serve(options, detached=False)
    try:
        signal.signal(signal.SIGTERM, interrupted)
        settings = Settings.load(options.home)
        return Command(argv, settings).wait(serve)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stop_serve(serve, options.home)


def up(options: Options) -> int:
    start_serve(options, detached=True)
    settings = Settings.load(options.home)
    print(f"The local Azure ML runs in {options.home} (proxy {settings.proxy}).")
    print('Next: eval "$(python -m emulator env)" and use the SDK; python -m emulator down stops it.')
    return 0


def down(home: Path) -> int:
    """Stop the emulator in `home` and whatever a crashed one left behind."""
    if not is_running(home):
        recover(home)
        print(f"No local Azure ML runs in {home}.")
        return 0
    pid = int((home / "pid").read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while is_running(home) and time.monotonic() < deadline:
        time.sleep(0.05)
    if is_running(home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    recover(home)
    print(f"Stopped the local Azure ML in {home}; its state is kept (python -m emulator clean deletes it).")
    return 0


def status(home: Path) -> int:
    """Print what runs; exit code 0 when it does, 1 when not."""
    settings = saved_settings(home)
    if settings is None or not is_running(home):
        print(f"No local Azure ML runs in {home}.")
        return 1
    print(f"The local Azure ML runs in {home}.")
    for name in ("proxy", "server", "azurite", "mlflow"):
        print(f"  {name:8} 127.0.0.1:{getattr(settings, name + '_port')}")
    return 0


def env(home: Path) -> int:
    """Print shell lines that lead this shell to the running emulator."""
    settings = saved_settings(home)
    if settings is None or not is_running(home):
        raise EmulatorError(f"No local Azure ML runs in {home}; start one with `python -m emulator up`.")
    variables = {**command_environment(settings), "EMULATOR_HOME": str(home)}
    exports = (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    print("\n".join(["unset " + " ".join(UNSET), *exports]))
    return 0


def clean(home: Path) -> int:
    """Delete the state of `up` and of `run` under `home`."""
    removed = [path for path in (home / RUN, home) if wipe(path)]
    print(f"Deleted {', '.join(map(str, removed))}." if removed else f"There is no state in {home}.")
    return 0
