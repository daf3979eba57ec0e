"""Ids and labels as an Arrow file: what a trainer maps into memory instead of encoding again."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import pyarrow

from data.pieces import Encoded

_IDS = pyarrow.list_(pyarrow.int32())
SCHEMA = pyarrow.schema([("input_ids", _IDS), ("labels", _IDS)])


class TokenFile:
    """Written batch by batch; whole once it is closed."""

    def __init__(self, path: Path) -> None:
        self._writer = pyarrow.RecordBatchFileWriter(str(path), SCHEMA)

    def write(self, encoded: Sequence[Encoded]) -> None:
        ends = array("i", accumulate((len(ids) for ids, _ in encoded), initial=0))
        columns = []
        for which in (0, 1):
            flat = array("i")  # several times as fast as numpy from a list
            for one in encoded:
                flat.fromlist(one[which])
            columns.append(pyarrow.ListArray.from_arrays(_int32(ends), _int32(flat)))
        self._writer.write_batch(pyarrow.record_batch(columns, schema=SCHEMA))

    def close(self) -> None:
        self._writer.close()


def _int32(numbers: array[int]) -> pyarrow.Array:
    """Without a copy, and without pandas, which pyarrow loads to be shown anything else."""
    return pyarrow.Array.from_buffers(pyarrow.int32(), len(numbers), [None, pyarrow.py_buffer(numbers)])


def read(path: Path) -> pyarrow.Table:
    """The file's rows, mapped and not copied."""
    return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()
