"""What was paid for once: a JSONL file that gets a line the moment a result is there, read again by the next run.

A line is handed to the kernel in one write under a lock, so it survives the death of this process at any moment, and
two processes can share the file. To the disk it goes once a second and at the end: only a power cut can cost answers,
those of its last second. (Measured: a write takes 2 µs, with fsync 250 to 400 µs, on a network disk many milliseconds,
and a fast endpoint answers every 3 ms.) A line that was torn all the same is not JSON and counts as never written.
"""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from eval.errors import EvalError

SYNC_SECONDS = 1.0
Value = dict[str, Any]


def read(path: Path) -> dict[str, Value]:
    """The values by key; the last line about a key counts. Lines that are not whole are left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EvalError(f"{path}: kept answers cannot be read ({error.strerror}); remove or mend the file.") from error
    values: dict[str, Value] = {}
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            values[str(entry["key"])] = dict(entry["value"])
    return values


class Ledger:
    """The writing end. The file and its folder are made with the first line."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._synced = path, -1, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            with suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
            self._file = -1

    def add(self, key: str, value: Mapping[str, Any]) -> None:
        """Append one result. Raises EvalError when the disk does not take it."""
        line = (json.dumps({"key": key, "value": value}) + "\n").encode()
        try:
            if self._file < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._append(line)
        except OSError as error:
            why = error.strerror or error
            raise EvalError(
                f"{self._path}: an answer cannot be kept ({why}); make room or choose another --out."
            ) from None

    def _append(self, line: bytes) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            size = os.fstat(self._file).st_size
            # Another process may have died in the middle of its line: do not go on writing in it.
            torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"
            whole = b"\n" * torn + line
            if os.write(self._file, whole) < len(whole):
                raise OSError(None, "the disk is full")
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            os.fsync(self._file)
            self._synced = time.monotonic()
