"""However the input is cut and by however many processes it is read, the result is the same."""

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import chunks as module
from data.chunks import Chunk, Shape, Unreadable, of_file
from data.errors import DataError
from data.pool import mapped
from data.prepare import prepare
from data.report import check
from data.rules import CHATS, load_rules
from data.sources import File, Sources
from data.tokens import Encoding

Row = dict[str, Any]


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.sampled_from(["", " ", '{"a":1}', '{"messages":"é\u2028x"}', "[1]", "{", "\r"]), min_size=1),
    size=st.integers(1, 40),
    ended=st.booleans(),
)
def test_a_file_that_is_cut_anywhere_is_the_same_lines(
    lines: list[str], size: int, ended: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "rows.jsonl"
    path.write_bytes(("\n".join(lines) + "\n" * ended or "\n").encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RANGE", size)
        pieces = [(chunk, row) for chunk in of_file(path, Shape("messages")) for row in chunk.read()]
    whole = Chunk(Shape("messages"), path, 0, path.stat().st_size)
    assert [row for _, row in pieces if not isinstance(row, Unreadable)] == [
        row for row in whole.read() if not isinstance(row, Unreadable)
    ]
    bad = [chunk.line(row.line) for chunk, row in pieces if isinstance(row, Unreadable)]
    assert bad == [at for at, line in enumerate(lines, start=1) if line.strip() in ("[1]", "{")]


def square(item: int, add: int) -> int:
    if item == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 7:
        raise ValueError("seven")
    return item * item + add


@pytest.mark.slow
def test_results_come_in_order_and_errors_come_through() -> None:
    assert list(mapped(square, range(6), 1, workers=2)) == [1, 2, 5, 10, 17, 26]
    with pytest.raises(ValueError, match="seven"):
        list(mapped(square, iter(range(40)), 1, workers=2))
    with pytest.raises(DataError, match="A worker process was killed"):
        list(mapped(square, iter(range(48, 60)), 1, workers=2))


@pytest.mark.slow
def test_pieces_and_processes_change_nothing(
    make_ticket: Callable[..., Row], write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_ticket(n) for n in range(150)]
    for at in range(0, 150, 10):  # duplicates, near duplicates, odd rows: over all pieces
        copy: Row = json.loads(json.dumps(rows[at]).replace("charged twice", "charged thrice"))
        rows.append(copy | {"id": f"near-{at}", "cluster_id": f"near-{at}"})
    rows[142]["messages"][1]["content"] += " jo.doe@" + "acme.io"
    others = [row for at, row in enumerate(rows[:150]) if at % 10]
    for row, said in zip(others[:30], ["und die der das ist nicht", "het een van niet dat zijn"] * 15, strict=True):
        row["messages"][1]["content"] = f"{said} {row['messages'][1]['content']}"
    random.Random(1).shuffle(rows)
    source = write(tmp_path / "pool.jsonl", rows)
    sources = Sources(name="x", train=File(file=source))
    results = []
    for size, workers in ((10**9, 1), (7_000, 1), (9_000, 2)):
        monkeypatch.setattr(module, "RANGE", size)
        made = prepare(sources, None, tmp_path / f"out-{size}", "x", workers=workers)
        checked = check(sources, load_rules(CHATS), Encoding(), workers)
        results.append((made.files, made.checks, checked))
    assert results[0] == results[1] == results[2]
    counts = {one.code: one.count for one in results[0][1] if one.count}
    assert counts == {"near_duplicate": 15, "personal_data": 1, "language": 15}
    assert results[0][2].languages == {"unknown": 135, "de": 15, "nl": 15}


def test_lines_that_are_no_rows_are_findings_with_their_place(
    make_ticket: Callable[..., Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps(make_ticket(n)).encode() for n in range(30)]
    lines[11] = b'{"messages": '
    lines[12] = b'{"messages": "\xff"}'
    lines[13] = b"[]"
    lines[14] = json.dumps(make_ticket(14)).replace("twice", "\\ud800").encode()
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))  # with a byte order mark, as some editors write
    monkeypatch.setattr(module, "RANGE", 900)
    done = check(Sources(name="x", train=File(file=path)), load_rules(CHATS), Encoding(), 1)
    found = {one.code: one.examples for one in done.checks if one.count}
    assert not done.passed
    assert done.files[0].rows == 27
    assert [example.split(":")[0] for example in found["json"]] == ["mine.jsonl line 12", "mine.jsonl line 14"]
    assert [example.split(":")[0] for example in found["utf8"]] == ["mine.jsonl row 12 (t-00014)", "mine.jsonl line 13"]
