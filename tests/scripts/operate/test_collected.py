"""Rows of requests that the content filter stopped: their prompts count in drift, their answers do not."""

import json

import numpy as np

from scripts.operate.collected import Statistics

ROW = {
    "model": "m:1", "prompt_characters": 9, "rare_share": 0.1, "language": "en", "sketch": [0] * 32,
    "answer_tokens": 5, "finish_reason": "length", "valid": True, "refused": False,
}  # fmt: skip


def test_of_what_was_blocked_only_the_prompt_counts() -> None:
    blocked = {"answer_tokens": 0, "finish_reason": "content_filter", "valid": None, "filtered": "prompt:harm:hate"}
    rows = [ROW | {"id": "a"}, ROW | {"id": "b", "filtered": ""}, ROW | {"id": "c"} | blocked]
    found = Statistics([json.dumps({"time": "2026-05-01T00:00:00Z", "data": rows}).encode()], "m:1")
    assert found.unreadable == 0
    numbers = found.rows.numbers
    assert numbers["prompt_characters"].tolist() == [9, 9, 9]
    for name, value in (("answer_tokens", 5), ("valid", 1), ("refused", 0), ("cut_off", 1)):
        assert numbers[name][:2].tolist() == [value, value]
        assert np.isnan(numbers[name][2]), name
