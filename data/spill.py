"""Columns of numbers on disk, one file each: what is known of a million rows, without holding it in memory at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Array = np.ndarray[Any, Any]
_BUFFER = 1 << 16


class Spill:
    """Append pieces of columns, then read one column whole or single rows of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple[np.dtype[Any], int]] = {}

    def append(self, name: str, values: Array) -> None:
        if name not in self._files:
            self._files[name] = (self.folder / name).open("w+b", buffering=_BUFFER)
            self._kinds[name] = (values.dtype, values.shape[1] if values.ndim > 1 else 1)
        self._files[name].write(np.ascontiguousarray(values).tobytes())

    def column(self, name: str) -> Array:
        """The whole column; an empty one that nobody wrote to."""
        if name not in self._files:
            return np.zeros(0, np.uint64)
        self._files[name].flush()
        return np.fromfile(self.folder / name, self._kinds[name][0])

    def rows(self, name: str, indices: Array) -> Array:
        """Some rows of a column of several numbers a row, by reading just these."""
        file, (kind, width) = self._files[name], self._kinds[name]
        file.flush()
        size = kind.itemsize * width
        read = b"".join(os.pread(file.fileno(), size, int(at) * size) for at in indices)
        return np.frombuffer(read, kind).reshape(-1, width)

    def close(self) -> None:
        for file in self._files.values():
            file.close()


@contextmanager
def spill(beside: Path | None = None) -> Iterator[Spill]:
    """A spill that is gone afterwards; `beside`: the folder to make it in, where there is room."""
    if beside:
        beside.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".checks-", dir=beside))
    columns = Spill(folder)
    try:
        yield columns
    finally:
        columns.close()
        shutil.rmtree(folder, ignore_errors=True)
