"""The ledger: whatever happens to its last line, the lines before it count, and two writers do not mix theirs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.errors import EvalError
from eval.ledger import Ledger, read

ROOT = Path(__file__).parents[2]
VALUES = st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none(), max_size=3)


@given(st.lists(st.tuples(st.text(max_size=3), VALUES), max_size=8), st.data())
def test_a_torn_end_costs_the_torn_line_alone(tmp_path_factory, entries, data):
    path = tmp_path_factory.mktemp("ledger") / "l.jsonl"
    with Ledger(path) as ledger:
        for key, value in entries:
            ledger.add(key, value)
    assert read(path) == dict(entries)
    if not entries:
        assert not path.exists()
        return
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    there = whole[:cut].count(b"\n")
    # The last line may have lost its line end alone.
    assert read(path) in (dict(entries[:there]), dict(entries[: there + 1]))
    with Ledger(path) as ledger:
        ledger.add("after", {"n": 1})
    assert read(path)["after"] == {"n": 1}
    assert {key: value for key, value in read(path).items() if key != "after"} in (
        {key: value for key, value in dict(entries[:n]).items() if key != "after"} for n in (there, there + 1)
    )


@pytest.mark.parametrize("line", ["{", "[]", "null", '{"key": "a"}', '{"key": "a", "value": 3}', "\x00\x00", "\udcff"])
def test_a_line_that_is_not_ours_is_left_out(tmp_path, line):
    path = tmp_path / "l.jsonl"
    with Ledger(path) as ledger:
        ledger.add("a", {"n": 1})
    with path.open("ab") as file:
        file.write(line.encode("utf-8", "surrogateescape") + b"\n")
    with Ledger(path) as ledger:
        ledger.add("b", {"n": 2})
    assert read(path) == {"a": {"n": 1}, "b": {"n": 2}}


WRITER = """
import sys
from pathlib import Path
from eval.ledger import Ledger
with Ledger(Path(sys.argv[1])) as ledger:
    for n in range(400):
        ledger.add(f"{sys.argv[2]}-{n}", {"text": sys.argv[2] * (n % 97) * 50})
"""


def test_two_processes_do_not_mix_their_lines(tmp_path):
    path = tmp_path / "l.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name], cwd=ROOT) for name in "xyz"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(read(path)) == 1200
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        name, _, number = entry["key"].partition("-")
        assert entry["value"]["text"] == name * (int(number) % 97) * 50


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EvalError, match=r"cannot be kept .*--out"), Ledger(tmp_path / "file" / "l.jsonl") as ledger:
        ledger.add("a", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(EvalError, match="cannot be read"):
        read(tmp_path / "folder")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")  # noqa: PTH110
def test_a_full_disk_is_one_sentence():
    with (
        pytest.raises(EvalError, match=r"/dev/full: an answer cannot be kept \(No space"),
        Ledger(Path("/dev/full")) as it,
    ):
        it.add("a", {"n": 1})
