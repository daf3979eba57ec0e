"""One row per scoring request: what metrics and the service's AmlOnlineEndpointTrafficLog are made from.

Rows are written by a thread of their own, so that scoring never waits for the disk.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from dataclasses import astuple, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Row:
    at: float  # seconds since 1970, when the request came
    endpoint: str  # ARM id, lower case
    deployment: str  # "" when none could be chosen
    status: int  # what the client got (0 for a mirrored copy: nobody got it)
    model_status: int  # what the container said, 0 when it was not asked or did not answer
    latency_ms: float  # from the arrival of the request to the answer, waiting for a slot included
    mirrored: int  # 1 for the copy that went to the mirror target
    request_id: str


@dataclass(frozen=True)
class Tally:
    """So many rows of one minute that are alike in everything that metrics can tell apart."""

    deployment: str
    minute: int  # since 1970
    status: int
    model_status: int
    mirrored: int
    requests: int
    slow: int


# Whole tallies come out of the index alone.
COUNTED = "endpoint, at, latency_ms, deployment, status, model_status, mirrored"
LOOK_SECONDS = 1.0  # how often who waits for the writer looks whether it lives
LONGEST_SECONDS = 900.0  # more than any request takes, waiting and restarts included
COLUMNS = ", ".join(field.name for field in fields(Row))


class TrafficLog:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: queue.SimpleQueue[Row | threading.Event] = queue.SimpleQueue()
        with self._open() as database:
            database.execute(f"CREATE TABLE IF NOT EXISTS requests ({COLUMNS})")
            database.execute(f"CREATE INDEX IF NOT EXISTS by_what_is_counted ON requests ({COUNTED})")
        database.close()
        self._writer = threading.Thread(target=self._write, name="traffic-log", daemon=True)
        self._writer.start()

    def add(self, row: Row) -> None:
        self._rows.put(row)

    def rows(self, endpoint: str, since: float = 0.0) -> list[Row]:
        """Requests to an endpoint (ARM id) since a time (seconds since 1970), oldest first."""
        self.flush()
        query = f"SELECT {COLUMNS} FROM requests WHERE endpoint = ? AND at >= ? ORDER BY at"  # noqa: S608 (our columns)
        with self._open() as database:
            found = [Row(*row) for row in database.execute(query, (endpoint.lower(), since))]
        database.close()
        return found

    def tallies(self, endpoint: str, since: float, until: float, slow_ms: float = float("inf")) -> list[Tally]:
        """Requests answered in [since, until) by minute, those that took over `slow_ms` counted beside; oldest first.

        By when they were answered and not when they came, so that a minute which is over can never grow.
        """
        self.flush()
        query = (
            "SELECT deployment, CAST(answered / 60 AS INTEGER) AS minute, status, model_status, mirrored, COUNT(*),"
            " SUM(latency_ms > ?) FROM (SELECT *, at + latency_ms / 1000.0 AS answered FROM requests"
            " WHERE endpoint = ? AND at >= ? AND at < ?) WHERE answered >= ? AND answered < ?"
            " GROUP BY deployment, minute, status, model_status, mirrored ORDER BY minute"
        )
        values = (slow_ms, endpoint.lower(), since - LONGEST_SECONDS, until, since, until)
        with self._open() as database:
            found = [Tally(*row) for row in database.execute(query, values)]
        database.close()
        return found

    def flush(self) -> None:
        """Return when everything added before is on disk, however long that takes: what is read then misses nothing.

        Raises RuntimeError when nobody writes any more.
        """
        written = threading.Event()
        self._rows.put(written)
        while not written.wait(LOOK_SECONDS):
            if not self._writer.is_alive():
                raise RuntimeError(f"{self._path} can no longer be written: requests of late are counted nowhere.")

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=10)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=OFF")
        return database

    def _write(self) -> None:
        database = self._open()
        marks = ", ".join("?" for _ in fields(Row))
        while True:
            taken = [self._rows.get()]
            while not self._rows.empty():
                taken.append(self._rows.get())
            with database:
                rows = [astuple(item) for item in taken if isinstance(item, Row)]
                database.executemany(f"INSERT INTO requests ({COLUMNS}) VALUES ({marks})", rows)  # noqa: S608
            for item in taken:
                if isinstance(item, threading.Event):
                    item.set()
