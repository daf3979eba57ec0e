"""The log of scoring requests: what is read misses nothing that was added before, or says that it would."""

import sqlite3
import threading
from pathlib import Path

import pytest

from emulator import traffic_log
from emulator.traffic_log import Row, TrafficLog

ROW = Row(1000.0, "/phi", "blue", 200, 200, 20.0, 0, "")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrafficLog:
    monkeypatch.setattr(traffic_log, "LOOK_SECONDS", 0.02)
    return TrafficLog(tmp_path / "traffic.db")


def test_who_reads_waits_for_a_slow_disk(log: TrafficLog, tmp_path: Path) -> None:
    busy = sqlite3.connect(tmp_path / "traffic.db", isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")  # as long as this lasts nobody can write
    for _ in range(3000):
        log.add(ROW)
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(len(log.rows("/phi"))))
    reader.start()
    reader.join(0.5)
    assert found == [], "it read before everything was written"
    busy.execute("COMMIT")
    reader.join()
    assert found == [3000]
    busy.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_cannot_be_written_is_no_empty_answer(log: TrafficLog, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "traffic.db") as database:
        database.execute("ALTER TABLE requests RENAME TO gone")
    log.add(ROW)
    for read in (lambda: log.rows("/phi"), lambda: log.tallies("/phi", 0, 2000)):
        with pytest.raises(RuntimeError, match="counted nowhere"):
            read()
