"""Ids and labels as an Arrow file: what a training job maps into memory instead of encoding on a rented GPU.

A token's label is its own id or nothing, so one bit a token says which. Each batch carries a digest of itself: a file
that was damaged on its way must not pass for data. `training/tokenfile.py` reads it, in the very order of the JSONL.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute

from data.pieces import IGNORED, Encoded
from data.similarity import Array

SCHEMA = pyarrow.schema([("input_ids", pyarrow.list_(pyarrow.int32())), ("learned", pyarrow.list_(pyarrow.bool_()))])


class TokenFile:
    """Written batch by batch; whole once it is closed. `about` says what it was made of."""

    def __init__(self, path: Path, about: Mapping[str, str] | None = None) -> None:
        self._writer = pyarrow.RecordBatchFileWriter(str(path), SCHEMA.with_metadata(dict(about or {})))

    def write(self, encoded: Sequence[Encoded]) -> None:
        ends = array("i", accumulate((len(ids) for ids, _ in encoded), initial=0))
        ids, labels = array("i"), array("i")  # several times as fast as numpy from a list
        for one, its in encoded:
            ids.fromlist(one)
            labels.fromlist(its)
        offsets = _view(pyarrow.int32(), len(ends), ends)
        learned = _bits(np.frombuffer(labels, np.int32) != IGNORED)
        columns = [
            pyarrow.ListArray.from_arrays(offsets, values)
            for values in (_view(pyarrow.int32(), len(ids), ids), learned)
        ]
        self.put(pyarrow.record_batch(columns, schema=SCHEMA))

    def put(self, batch: pyarrow.RecordBatch) -> None:
        self._writer.write_batch(batch, custom_metadata={"sha256": checksum(batch)})

    def close(self) -> None:
        self._writer.close()


def checksum(batch: pyarrow.RecordBatch) -> str:
    """SHA-256 of where each chat begins, the ids, and the bits."""
    ids, learned = batch.columns
    digest = hashlib.sha256(ids.offsets.to_numpy().tobytes())
    digest.update(ids.values.to_numpy().tobytes())
    digest.update(np.packbits(learned.values.to_numpy(zero_copy_only=False), bitorder="little").tobytes())
    return digest.hexdigest()


def distribute(parts: Iterable[Path], placed: Array, wanted: Mapping[int, tuple[Path, Mapping[str, str]]]) -> None:
    """The rows of `parts`, each into the file of the number that `placed` gives it, in order. Takes the parts away.

    `wanted` has the path of each number's file and what it is to say of itself; rows of another number go nowhere.
    """
    at = 0
    with ExitStack() as stack:
        files = {number: stack.enter_context(closing(TokenFile(*how))) for number, how in wanted.items()}
        for part in parts:
            table = _mapped(part)
            where = placed[at : at + len(table)]
            at += len(table)
            for number, file in files.items():
                for batch in table.filter(_bits(where == number)).combine_chunks().to_batches():
                    file.put(batch)
            part.unlink()
    if at != len(placed):
        raise AssertionError(f"{len(placed)} rows were placed and {at} encoded")


def part_of(rows: Path) -> Path:
    """Where the ids and labels of a piece of rows wait (see `examine`)."""
    return rows.with_name(f"{rows.name}.arrow")


def read(path: Path) -> pyarrow.Table:
    """The file's rows as `input_ids` and `labels`."""
    batches = []
    for batch in _mapped(path).to_batches():
        ids, learned = batch.columns
        labels = pyarrow.compute.if_else(learned.values, ids.values, pyarrow.scalar(IGNORED, pyarrow.int32()))
        columns = [ids, pyarrow.ListArray.from_arrays(ids.offsets, labels)]
        batches.append(pyarrow.record_batch(columns, names=["input_ids", "labels"]))
    kind = SCHEMA.field("input_ids").type
    return pyarrow.Table.from_batches(batches, pyarrow.schema([("input_ids", kind), ("labels", kind)]))


def _mapped(path: Path) -> pyarrow.Table:
    return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()


def _bits(chosen: Array) -> pyarrow.Array:
    return _view(pyarrow.bool_(), len(chosen), np.packbits(chosen, bitorder="little"))


def _view(kind: pyarrow.DataType, length: int, numbers: Any) -> pyarrow.Array:
    """Without a copy, and without pandas, which pyarrow loads to be shown anything else."""
    return pyarrow.Array.from_buffers(kind, length, [None, pyarrow.py_buffer(numbers)])
