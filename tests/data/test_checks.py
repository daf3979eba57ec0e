"""Each check is proven by planting the fault it is there for, and by sound data on which it stays silent."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from data.checks import CHECKS, Corpus, Rules, normalised, run_checks, stop_on_errors
from data.errors import DataError

Row = dict[str, Any]
Change = Callable[[Row], None]


def counts(rows: list[Row], held_out: list[Row] | None = None, rules: Rules | None = None) -> dict[str, int]:
    checks = run_checks([Corpus("pool.jsonl", rows, held_out or [])], rules or Rules())
    return {check.code: check.count for check in checks if check.count}


def set_answer(row: Row, text: str) -> None:
    row["messages"][-1]["content"] = text


FAULTS: dict[str, tuple[str, Change]] = {
    "no messages": ("schema", lambda row: row.pop("messages")),
    "empty messages": ("schema", lambda row: row["messages"].clear()),
    "content is no text": ("schema", lambda row: row["messages"][1].update(content=7)),
    "no cluster": ("schema", lambda row: row.pop("cluster_id")),
    "blank id": ("schema", lambda row: row.update(id="")),
    "slices are no text": ("schema", lambda row: row.update(slices={"turns": 2})),
    "unknown role": ("roles", lambda row: row["messages"][0].update(role="tool")),
    "late system turn": ("roles", lambda row: row["messages"].insert(2, {"role": "system", "content": "x"})),
    "two user turns": ("alternation", lambda row: row["messages"].insert(1, {"role": "user", "content": "x"})),
    "assistant first": ("alternation", lambda row: row["messages"].pop(1)),
    "ends with the user": ("last_turn", lambda row: row["messages"].pop()),
    "blank turn": ("blank", lambda row: row["messages"][1].update(content=" \n")),
    "same id": ("duplicate_id", lambda row: row.update(id="t-00000")),
    "too long": ("over_length", lambda row: row["messages"][1].update(content="word " * 2000)),
    "answer is prose": ("answer_json", lambda row: set_answer(row, "Certainly! It is billing.")),
    "answer is a list": ("answer_json", lambda row: set_answer(row, "[1]")),
    "a key is missing": ("answer_keys", lambda row: set_answer(row, '{"category":"billing"}')),
    "keys in another order": (
        "answer_keys",
        lambda row: set_answer(row, '{"priority":"low","category":"billing","product":"x","order_id":null}'),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_found_once(fault: str, make_ticket: Callable[..., Row]) -> None:
    code, plant = FAULTS[fault]
    rows = [make_ticket(n) for n in range(5)]
    assert counts(rows) == {}
    plant(rows[3])
    assert counts(rows).get(code) == 1


def test_every_check_of_the_table_has_a_planted_fault() -> None:
    elsewhere = {"duplicate", "leakage", "shared_cluster"}
    assert {code for code, *_ in CHECKS} == {code for code, _ in FAULTS.values()} | elsewhere


def test_a_repeated_chat_is_found_although_its_id_is_new(make_ticket: Callable[..., Row]) -> None:
    rows = [make_ticket(0), make_ticket(1), make_ticket(0) | {"id": "t-9", "cluster_id": "c-9"}]
    assert counts(rows) == {"duplicate": 1}


def test_a_held_out_prompt_in_training_is_found_whatever_its_case_and_spacing(make_ticket: Callable[..., Row]) -> None:
    rows, gate = [make_ticket(n) for n in range(3)], [make_ticket(n) for n in range(7, 9)]
    assert counts(rows, gate) == {}
    rows[1]["messages"][1]["content"] = "  I was CHARGED twice,  for lamp 7!"
    assert counts(rows, gate) == {"leakage": 1}


def test_a_held_out_prompt_inside_a_longer_thread_is_found(make_ticket: Callable[..., Row]) -> None:
    row, gate = make_ticket(1), [make_ticket(7)]
    row["messages"][1]["content"] = gate[0]["messages"][1]["content"]
    row["messages"] += [{"role": "user", "content": "And?"}, row["messages"][-1]]
    assert counts([row], gate) == {"leakage": 1}


def test_a_cluster_may_not_be_on_both_sides(make_ticket: Callable[..., Row]) -> None:
    assert counts([make_ticket(1, cluster="c")], [make_ticket(7, cluster="c")]) == {"shared_cluster": 1}


def test_free_text_answers_are_allowed_when_no_keys_are_asked(make_ticket: Callable[..., Row]) -> None:
    row = make_ticket(0)
    set_answer(row, "Certainly.")
    assert counts([row], rules=Rules(answer_keys=None)) == {}


def test_silent_checks_are_reported_too_and_examples_name_file_row_and_id(make_ticket: Callable[..., Row]) -> None:
    rows = [make_ticket(n) for n in range(9)]
    for row in rows[1:]:
        row["id"] = "t-00000"
    checks = {check.code: check for check in run_checks([Corpus("pool.jsonl", rows)], Rules())}
    assert set(checks) == {code for code, *_ in CHECKS}
    assert checks["duplicate_id"].count == 8
    assert checks["duplicate_id"].examples[0] == "pool.jsonl row 2 (t-00000)"
    assert len(checks["duplicate_id"].examples) == 5


def test_errors_stop_with_one_sentence_and_warnings_do_not(make_ticket: Callable[..., Row]) -> None:
    rows = [make_ticket(0), make_ticket(0)]
    checks = run_checks([Corpus("pool.jsonl", rows)], Rules())
    with pytest.raises(DataError, match=r"breaks 2 check\(s\): duplicate_id: 1 row\(s\), e\.g\. pool\.jsonl row 2"):
        stop_on_errors(checks)
    stop_on_errors([check.model_copy(update={"severity": "warning"}) for check in checks])


def test_checks_survive_any_json_value(make_ticket: Callable[..., Row]) -> None:
    strange = [{}, {"messages": None}, {"messages": [3]}, {"messages": [{"role": [], "content": {}}], "id": [1]}]
    strange += [make_ticket(1) | {"cluster_id": {"a": 1}, "slices": [1]}]
    assert counts(json.loads(json.dumps(strange)), [{"cluster_id": []}])["schema"] == len(strange)


def test_normalised_forgets_case_spacing_punctuation_and_form() -> None:
    assert normalised(" The  ﬁrst, Café! ") == normalised("the first CAFE\u0301")
    assert normalised("order 12") != normalised("order 13")
