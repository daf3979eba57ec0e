"""Large inputs as small pieces: what a worker process is given is a place to read, never a list of all rows.

A JSONL file is cut into byte ranges that begin wherever they fall; the line that spans a cut belongs to the range it
began in. Tables (parquet, the hub) come as batches of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.formats import to_row
from data.rows import Row

RANGE = 4_000_000  # bytes of JSONL a piece: some 600 chats of ultrachat's length
BATCH = 512  # rows of a table a piece


@dataclass(frozen=True)
class Unreadable:
    """A line that is no row: which check it fails and why."""

    code: str
    line: int
    why: str


@dataclass(frozen=True)
class Shape:
    """How the records of a source become rows."""

    form: str = "auto"
    id_key: str = "id"
    cluster_key: str = "cluster_id"


@dataclass(frozen=True)
class Chunk:
    """A piece of a source: a range of `path`, or `table` (an Arrow table), or `rows`."""

    shape: Shape = Shape()
    path: Path | None = None
    start: int = 0
    end: int = 0
    table: Any = None
    rows: Sequence[Row] = field(default=())

    def read(self) -> Iterator[Row | Unreadable]:
        if self.path is not None:
            yield from (self._parsed(number, line) for number, line in self._lines())
            return
        for record in self.rows if self.table is None else self.table.to_pylist():
            yield self._row(record)

    def line(self, number: int) -> int:
        """The line of the file that the piece's line `number` is; asked only for a line that cannot be read."""
        if not self.start or self.path is None:
            return number
        with self.path.open("rb") as file:
            before, left = 1, self.start - 1
            while left and (block := file.read(min(left, 1 << 20))):
                before, left = before + block.count(b"\n"), left - len(block)
        return before + number

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with (self.path or Path()).open("rb") as file:
            if self.start:
                file.seek(self.start - 1)
                file.readline()  # the end of a line that began before, or just the line break before ours
            number = 0
            while file.tell() < self.end and (line := file.readline()):
                number += 1
                if line.strip():
                    yield number, line

    def _parsed(self, number: int, line: bytes) -> Row | Unreadable:
        try:
            record = json.loads(line.decode("utf-8-sig" if number == 1 and not self.start else "utf-8"))
        except UnicodeDecodeError:
            return Unreadable("utf8", number, "save the file as UTF-8")
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            return Unreadable("json", number, reason)
        if not isinstance(record, dict):
            return Unreadable("json", number, "each line must be one {…}")
        return self._row(record)

    def _row(self, record: Row) -> Row:
        return to_row(record, self.shape.form, self.shape.id_key, self.shape.cluster_key)


def of_file(path: Path, shape: Shape) -> Iterator[Chunk]:
    """The pieces of a JSONL or parquet file. Raises DataError for one that is missing, empty or unreadable."""
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise DataError(f"There is no file {path}; check the path.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a readable file.") from None
    if size == 0:
        raise DataError(f"{path} holds no rows; give a file with at least one.")
    if path.suffix == ".parquet":
        yield from _of_parquet(path, shape)
        return
    for start in range(0, size, RANGE):
        yield Chunk(shape, path, start, min(start + RANGE, size))


def _of_parquet(path: Path, shape: Shape) -> Iterator[Chunk]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                yield Chunk(shape, table=pyarrow.Table.from_batches([batch]))
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as parquet ({first}); give a whole file.") from None


def of_rows(rows: Sequence[Row], shape: Shape = Shape("messages")) -> Iterator[Chunk]:
    for start in range(0, len(rows), BATCH):
        yield Chunk(shape, rows=rows[start : start + BATCH])
