"""Every format becomes the same rows; what is odd in it stays odd for the checks, and nothing raises."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.checks import check_rows
from data.formats import FORMATS, guess, to_row
from data.rules import CHATS, load_rules

ASKED, ANSWERED = "What is 2 + 2?", "4."
CHAT = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
SYSTEM = {"role": "system", "content": "Be brief."}
SAME: dict[str, tuple[str, dict[str, Any]]] = {
    "messages": ("messages", {"messages": CHAT}),
    "messages with more in them": ("messages", {"messages": [{**m, "weight": 1, "name": None} for m in CHAT]}),
    "prompt and completion": ("prompt_completion", {"prompt": ASKED, "completion": ANSWERED}),
    "prompt and completion of messages": ("prompt_completion", {"prompt": CHAT[:1], "completion": CHAT[1:]}),
    "ShareGPT": (
        "sharegpt",
        {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWERED}]},
    ),
    "ShareGPT, other names": (
        "sharegpt",
        {"conversation": [{"from": "User", "value": ASKED}, {"from": "chatgpt", "value": ANSWERED}]},
    ),
    "ShareGPT that begins with an answer": (
        "sharegpt",
        {
            "conversations": [
                {"from": "gpt", "value": "Hello!"},
                {"from": "human", "value": ASKED},
                {"from": "gpt", "value": ANSWERED},
            ]
        },
    ),
    "Alpaca": ("alpaca", {"instruction": ASKED, "input": "", "output": ANSWERED}),
    "Alpaca without input": ("alpaca", {"instruction": ASKED, "output": ANSWERED, "input": None}),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_chat_in_every_format_is_the_same_row(name: str) -> None:
    form, record = SAME[name]
    row = to_row(record, form)
    assert row["messages"] == CHAT
    assert row == to_row({"messages": CHAT}, "messages")
    assert row["id"] == row["cluster_id"]
    if form != "sharegpt" or "conversations" in record:
        assert guess(record) == form


def test_what_only_one_format_has_is_kept() -> None:
    alpaca = {"instruction": "Add.", "input": "2, 2", "output": "4.", "system": "Be brief.", "history": [["a", "b"]]}
    assert [m["content"] for m in to_row(alpaca, "alpaca")["messages"]] == ["Be brief.", "a", "b", "Add.\n\n2, 2", "4."]
    said = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": ASKED}]
    assert to_row({"conversations": said}, "sharegpt")["messages"] == [SYSTEM, CHAT[0]]
    assert to_row({"conversations": said[1:], "system": "Be brief."}, "sharegpt")["messages"] == [SYSTEM, CHAT[0]]


def test_given_ids_are_kept_under_whatever_key_and_made_ones_follow_from_the_content() -> None:
    record = {"prompt_id": "p-1", "story": "s-1", "messages": CHAT, "slices": {"a": "b"}, "prompt": "dropped"}
    row = to_row(record, "messages", "prompt_id", "story")
    assert row == {"id": "p-1", "cluster_id": "s-1", "messages": CHAT, "slices": {"a": "b"}}
    made = to_row({"messages": CHAT}, "messages")["id"]
    assert made == to_row({"prompt": ASKED, "completion": ANSWERED}, "auto")["id"]
    assert made != to_row({"messages": [SYSTEM, *CHAT]}, "messages")["id"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["messages", "prompt", "completion", "conversations", "instruction", "input", "output", "history", "id", "slices"]
)
TURN = st.fixed_dictionaries({}, optional=dict.fromkeys(("role", "content", "from", "value"), JSON))


@settings(max_examples=40, deadline=None)
@given(record=st.dictionaries(KEYS, JSON | st.lists(TURN, max_size=3)), form=st.sampled_from(["auto", *FORMATS]))
def test_any_json_becomes_a_row_or_a_finding_and_never_an_error(record: dict[str, Any], form: str) -> None:
    row = to_row(record, form)
    assert set(row) <= {"id", "cluster_id", "messages", "slices"}
    checks = check_rows("any.jsonl", [record], rules=load_rules(CHATS))
    assert any(check.count for check in checks) or to_row(record, "auto")["messages"]
