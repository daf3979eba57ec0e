"""The held-out prompts: the expected answer never goes in, and a broken file names the line."""

import json
from pathlib import Path

import pytest

from eval.errors import EvalError
from eval.prompts import read_prompts

SYSTEM = {"role": "system", "content": "Be brief."}
USER, REPLY = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
GOOD = {"id": "h-1", "cluster_id": "c", "messages": [SYSTEM, USER, REPLY], "slices": {"priority": "low"}}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_long_thread_is_taken_apart(tmp_path):
    last = [{"role": "user", "content": "Q2"}, {"role": "assistant", "content": "A2"}]
    [prompt] = read_prompts(write(tmp_path / "p.jsonl", {**GOOD, "messages": [SYSTEM, USER, REPLY, *last]}))
    assert (prompt.text, prompt.expected, prompt.history) == ("Q2", "A2", [USER, REPLY])


def test_a_prompt_may_bring_the_text_that_its_answer_must_be_grounded_in(tmp_path):
    rows = [{**GOOD, "context": "The parcel left on Monday."}, {**GOOD, "id": "h-2"}]
    with_context, without = read_prompts(write(tmp_path / "p.jsonl", *rows))
    assert (with_context.context, without.context) == ("The parcel left on Monday.", None)


BAD = {
    "not JSON": "{",
    "twice": GOOD,
    "no answer": {**GOOD, "id": "h-2", "messages": [SYSTEM, USER]},
    "no question": {**GOOD, "id": "h-2", "messages": [SYSTEM, REPLY]},
    "no messages": {**GOOD, "id": "h-2", "messages": []},
    "empty text": {**GOOD, "id": "h-2", "messages": [{"role": "user", "content": ""}, REPLY]},
    "role": {**GOOD, "id": "h-2", "messages": [{"role": "tool", "content": "x"}, USER, REPLY]},
    "no cluster": {"id": "h-2", "messages": [USER, REPLY]},
    "empty context": {**GOOD, "id": "h-2", "context": ""},
    "unknown key": {**GOOD, "id": "h-2", "weight": 2},
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path, case):
    path = write(tmp_path / "p.jsonl", GOOD, BAD[case])
    with pytest.raises(EvalError) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(f"{path}:2: ") and "\n" not in str(caught.value)


def test_no_prompts_are_refused(tmp_path):
    for path in (write(tmp_path / "p.jsonl", ""), tmp_path / "missing.jsonl"):
        with pytest.raises(EvalError, match="prompts"):
            read_prompts(path)


def test_the_repositorys_own_prompts_can_be_read():
    prompts = read_prompts(Path(__file__).parents[2] / "data" / "heldout.jsonl")
    assert len(prompts) >= 100 and any(prompt.history for prompt in prompts)
