"""The emulator's folder: whose it is, who runs in it, what may be deleted.

A folder is ours when it holds the marker file; we never write into or delete another one that is not empty. The lock
file is held (flock) by the running `serve`, so a crash frees it by itself.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

from emulator.context import Settings
from emulator.errors import EmulatorError
from emulator.processes import sweep

MARKER = ".local-azure-ml"
DEFAULT = ".emulator"
RUN = "run"  # below the home of `up`: the folder of `run`, an emulator of its own
FREE_MIB = 300  # a small model is stored about twice; below this Azurite fails in the middle of an upload


def configured_home() -> Path:
    """EMULATOR_HOME, or .emulator in the current folder."""
    return Path(os.environ.get("EMULATOR_HOME") or DEFAULT).absolute()


def claim(home: Path) -> None:
    """Make `home` ours. EmulatorError when it is someone else's, cannot be written, or its disk is full."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / MARKER).exists():
            if any(path.name != RUN for path in home.iterdir()):
                message = f"The folder {home} holds other files; set EMULATOR_HOME to an empty or new folder."
                raise EmulatorError(message)
            (home / MARKER).write_text("State of a local Azure ML. `python -m emulator clean` deletes this folder.\n")
        probe = home / ".probe"
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(home).free // 2**20
    except OSError as error:
        raise EmulatorError(
            f"The folder {home} cannot be written ({error.strerror}); set EMULATOR_HOME to one that can."
        ) from error
    if free < FREE_MIB:
        raise EmulatorError(
            f"The disk of {home} has {free} MiB left, {FREE_MIB} are needed; free some or move EMULATOR_HOME."
        )


def lock(home: Path) -> IO[bytes]:
    """Hold the folder until the returned file is closed. EmulatorError when an emulator already runs in it."""
    file = (home / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise EmulatorError(
            f"A local Azure ML already runs in {home}; stop it first, or set EMULATOR_HOME to another folder."
        ) from error
    return file


def is_running(home: Path) -> bool:
    """Whether a `serve` holds the folder."""
    if not (home / "lock").exists():
        return False
    try:
        lock(home).close()
    except EmulatorError:
        return True
    return False


def saved_settings(home: Path) -> Settings | None:
    """Settings of the emulator that runs or last ran in `home`; None when there are none that can be read."""
    try:
        return Settings.load(home)
    except (OSError, ValueError, TypeError):
        return None


def recover(home: Path) -> None:
    """After a crash: end what it left running. The caller holds the lock or knows that nobody does."""
    if settings := saved_settings(home):
        sweep(settings.session)


def wipe(home: Path) -> bool:
    """Delete `home` with everything in it; False when it is not ours. EmulatorError when it is in use."""
    if not (home / MARKER).exists():
        return False
    if is_running(home):
        raise EmulatorError(f"A local Azure ML runs in {home}; stop it first, or set EMULATOR_HOME to another folder.")
    recover(home)
    try:
        shutil.rmtree(home)
    except OSError as error:
        raise EmulatorError(f"The folder {home} cannot be deleted ({error.strerror}: {error.filename}).") from error
    return True
