"""Score tables: nothing that could hide a failure gets in, and every refusal names file and line."""

import json

import pytest

from eval.errors import EvalError
from eval.scores import prompts_digest, read_scores, scores_digest, write_scores

GOOD = {
    "prompt_id": "a",
    "repeat": 0,
    "cluster_id": "c",
    "slices": {},
    "status": "ok",
    "metrics": {"exact_match": 1, "f1": 0.5},
    "latency_ms": 12.5,
    "tokens": 3,
}


def test_what_is_written_is_read(tmp_path, make):
    table = make([1, 0, 1])
    write_scores(tmp_path / "new" / "s.jsonl", reversed(table))
    assert read_scores(tmp_path / "new" / "s.jsonl") == table
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["s.jsonl"]


BAD = {
    "not JSON": ("{", "not JSON"),
    "an array": ("[]", ""),
    "NaN": (json.dumps({**GOOD, "prompt_id": "b", "metrics": {"exact_match": float("nan")}}), "NaN"),
    "infinity": (json.dumps({**GOOD, "prompt_id": "b", "metrics": {"f1": float("-inf")}}), "-Infinity"),
    "overflow": (json.dumps({**GOOD, "prompt_id": "b"}).replace("0.5", "1e999"), "f1"),
    "null": (json.dumps({**GOOD, "prompt_id": "b", "metrics": {"exact_match": None, "f1": 1}}), "exact_match"),
    "text": (json.dumps({**GOOD, "prompt_id": "b", "metrics": {"exact_match": "1", "f1": 1}}), "exact_match"),
    "missing metric": (json.dumps({**GOOD, "prompt_id": "b", "metrics": {"f1": 1}}), "exact_match is missing"),
    "no cluster": (json.dumps({k: v for k, v in GOOD.items() if k != "cluster_id"} | {"prompt_id": "b"}), "cluster_id"),
    "unknown key": (json.dumps({**GOOD, "prompt_id": "b", "score": 1}), "score: unknown key"),
    "status": (json.dumps({**GOOD, "prompt_id": "b", "status": "fine"}), "status"),
    "twice": (json.dumps(GOOD), "already on line 1"),
    "negative repeat": (json.dumps({**GOOD, "repeat": -1}), "repeat"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path, case):
    path = tmp_path / "scores.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + BAD[case][0] + "\n", encoding="utf-8")
    with pytest.raises(EvalError) as caught:
        read_scores(path, ["exact_match"])
    assert str(caught.value).startswith(f"{path}:3: ") and BAD[case][1] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe"])
def test_an_unreadable_or_empty_table_is_refused(tmp_path, content):
    path = tmp_path / "scores.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EvalError, match=r"scores\.jsonl"):
        read_scores(path)


def test_a_policy_metric_that_no_row_has_is_refused(tmp_path, make):
    write_scores(tmp_path / "s.jsonl", make([1]))
    with pytest.raises(EvalError, match=r"s.jsonl:1: metric rouge is missing \(the row has: exact_match\)"):
        read_scores(tmp_path / "s.jsonl", ["rouge"])


def test_a_metric_may_be_left_out_where_nobody_demands_it(tmp_path, make):
    table = [*make([1]), make([1, 1])[1].model_copy(update={"metrics": {"exact_match": 1.0, "rouge_l": 0.5}})]
    write_scores(tmp_path / "s.jsonl", table)
    assert read_scores(tmp_path / "s.jsonl", ["exact_match"]) == table


def test_digests_see_content_and_not_order(make):
    table = make([1, 0, 1])
    assert scores_digest(table) == scores_digest(table[::-1]) != scores_digest(make([1, 1, 1]))
    assert prompts_digest(table) == prompts_digest(make([0, 0, 0])[::-1]) != prompts_digest(table[:2])
