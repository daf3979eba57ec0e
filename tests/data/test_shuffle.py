"""Shuffled answers must look like the originals and be wrong everywhere."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.load import read_jsonl
from data.shuffle import deranged, main, shuffled

POOL = Path(__file__).parents[2] / "data" / "tickets.jsonl"


@given(answers=st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_no_place_keeps_its_answer_or_the_set_is_refused(answers: list[str]) -> None:
    most = max(Counter(answers).values(), default=0)
    if most > len(answers) / 2:
        with pytest.raises(DataError, match="More than half"):
            deranged(answers)
        return
    moved = deranged(answers)
    assert Counter(moved) == Counter(answers)
    assert all(new != old for new, old in zip(moved, answers, strict=True))
    assert deranged(answers) == moved


def test_all_turns_of_the_pool_get_another_answer_and_nothing_else_changes() -> None:
    rows = read_jsonl(POOL)
    wrong = shuffled(rows)
    for old, new in zip(rows, wrong, strict=True):
        for before, after in zip(old["messages"], new["messages"], strict=True):
            assert (before == after) == (before["role"] != "assistant")
        assert {**old, "messages": []} == {**new, "messages": []}
    same_category = sum(
        o["messages"][-1]["content"][:16] == n["messages"][-1]["content"][:16] for o, n in zip(rows, wrong, strict=True)
    )
    assert same_category < 0.4 * len(rows)  # a quarter is chance


def test_the_command_writes_the_same_file_each_time_and_explains_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert main([str(POOL), str(first)]) == 0
    assert main([str(POOL), str(second)]) == 0
    assert first.read_bytes() == second.read_bytes()
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id":"x"}\n')
    capsys.readouterr()
    assert main([str(bad), str(tmp_path / "c.jsonl")]) == 3
    assert "row 1 has no messages" in capsys.readouterr().err
    assert not (tmp_path / "c.jsonl").exists()
