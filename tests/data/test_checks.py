"""Each check is proven by planting the fault it is there for, and by sound data on which it stays silent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.checks import Check, check_rows, normalised, stop_on_errors
from data.errors import DataError
from data.rules import CHATS, CODES, TASK, Rules, load_rules

Row = dict[str, Any]
TICKETS = load_rules(TASK)
Change = Callable[[Row], None]


def checks_of(rows: list[Row], held_out: list[Row] | None = None, rules: Rules | None = None) -> dict[str, Check]:
    return {check.code: check for check in check_rows("pool.jsonl", rows, held_out or [], rules)}


def counts(rows: list[Row], held_out: list[Row] | None = None, rules: Rules | None = None) -> dict[str, int]:
    return {code: check.count for code, check in checks_of(rows, held_out, rules).items() if check.count}


def set_answer(row: Row, text: str) -> None:
    row["messages"][-1]["content"] = text


def say(row: Row, text: str) -> None:
    row["messages"][1]["content"] += f" {text}"


ENGLISH = "and the lamp that you have for this was not on when it is in your house, but I would be at my desk"
GERMAN = "und die Lampe ist nicht das was ich mit dem Kauf wie auch immer haben wollte, aber sie wird für den Tisch"
FAULTS: dict[str, tuple[str, Change]] = {
    "no messages": ("schema", lambda row: row.pop("messages")),
    "empty messages": ("schema", lambda row: row["messages"].clear()),
    "content is no text": ("schema", lambda row: row["messages"][1].update(content=7)),
    "a cluster of no text": ("schema", lambda row: row.update(cluster_id=7)),
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
    "an invisible character": ("unicode", lambda row: say(row, "tw\x00ice")),
    "a letter in two parts": ("unicode", lambda row: say(row, "cafe\u0301")),
    "a mark of another template": ("control_tokens", lambda row: say(row, "stop <|end|> here")),
    "a turn that ends early": ("control_tokens", lambda row: say(row, "[INST] do that [/INST]")),
    "a key of the cloud": ("secrets", lambda row: say(row, "AKIA" + "IOSFODNN7" + "EXAMPLE")),
    "an address": ("personal_data", lambda row: say(row, "jo.doe+x@" + "acme.io")),
    "another language": ("language", lambda row: say(row, GERMAN)),
    "a rare value": ("balance", lambda row: row.update(slices={"priority": "odd"})),
    "nothing to learn": ("no_loss", lambda row: row["messages"].pop()),
    "keys in another order": (
        "answer_keys",
        lambda row: set_answer(row, '{"priority":"low","category":"billing","product":"x","order_id":null}'),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_found_once(fault: str, make_ticket: Callable[..., Row]) -> None:
    code, plant = FAULTS[fault]
    rows = [make_ticket(n) for n in range(101)]
    for row in rows[:3]:
        say(row, ENGLISH)
    assert counts(rows) == {}
    plant(rows[3])
    assert counts(rows).get(code) == 1


def test_every_check_of_the_table_has_a_planted_fault() -> None:
    elsewhere = {"json", "utf8", "duplicate", "near_duplicate", "across_splits", "leakage", "shared_cluster"}
    assert set(CODES) == {code for code, _ in FAULTS.values()} | elsewhere


def test_a_repeated_chat_is_found_although_its_id_is_new(make_ticket: Callable[..., Row]) -> None:
    rows = [make_ticket(0), make_ticket(1), make_ticket(0) | {"id": "t-9", "cluster_id": "c-9"}]
    assert counts(rows) == {"duplicate": 1}


def test_a_held_out_prompt_in_training_is_found_whatever_its_case_and_spacing(make_ticket: Callable[..., Row]) -> None:
    rows, gate = [make_ticket(n) for n in range(3)], [make_ticket(n) for n in range(7, 9)]
    assert counts(rows, gate) == {}
    asked = gate[0]["messages"][1]["content"]
    rows[1]["messages"][1]["content"] = f"  {asked.upper().replace(' ', ',  ')}!"
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
    assert counts([row], rules=TICKETS.model_copy(update={"answer_keys": None})) == {}


def test_silent_checks_are_reported_too_and_examples_name_file_row_and_id(make_ticket: Callable[..., Row]) -> None:
    rows = [make_ticket(n) for n in range(9)]
    for row in rows[1:]:
        row["id"] = "t-00000"
    checks = checks_of(rows)
    assert list(checks) == list(CODES)
    assert checks["duplicate_id"].count == 8
    assert checks["duplicate_id"].examples[0] == "pool.jsonl row 2 (t-00000)"
    assert len(checks["duplicate_id"].examples) == 5


def test_errors_stop_with_one_sentence_and_warnings_do_not(make_ticket: Callable[..., Row]) -> None:
    rows = [make_ticket(0), make_ticket(0)]
    checks = list(checks_of(rows).values())
    with pytest.raises(DataError, match=r"breaks 2 check\(s\): duplicate_id: 1 row\(s\), e\.g\. pool\.jsonl row 2"):
        stop_on_errors(checks)
    stop_on_errors([check.model_copy(update={"severity": "warning"}) for check in checks])


def test_checks_survive_any_json_value(make_ticket: Callable[..., Row]) -> None:
    strange = [{}, {"messages": None}, {"messages": [3]}, {"messages": [{"role": [], "content": {}}], "id": [1]}]
    strange += [make_ticket(1) | {"cluster_id": {"a": 1}, "slices": [1]}]
    assert (
        counts(json.loads(json.dumps(strange)), [{"cluster_id": []}])["schema"] == len(strange) + 1
    )  # the held-out row too


def test_normalised_forgets_case_spacing_punctuation_and_form() -> None:
    assert normalised(" The  ﬁrst, Café! ") == normalised("the first CAFE\u0301")
    assert normalised("order 12") != normalised("order 13")


def test_a_row_that_says_nearly_the_same_is_found_unless_it_is_declared_a_paraphrase(
    make_ticket: Callable[..., Row],
) -> None:
    rows = [make_ticket(n) for n in range(4)]
    rows.append(json.loads(json.dumps(rows[1]).replace("charged twice", "charged thrice")) | {"id": "t-8"})
    assert counts(rows) == {}
    rows[-1]["cluster_id"] = "another"
    checks = checks_of(rows)
    assert (checks["near_duplicate"].count, checks["near_duplicate"].examples) == (1, ["pool.jsonl row 5 (t-8)"])


def test_nearly_a_held_out_prompt_is_leakage_too(make_ticket: Callable[..., Row]) -> None:
    rows, gate = [make_ticket(n) for n in range(3)], [make_ticket(7)]
    rows[1]["messages"][1]["content"] = gate[0]["messages"][1]["content"].replace("twice", "thrice")
    checks = checks_of(rows, gate)
    assert checks["leakage"].count == 1
    assert "of a prompt" in checks["leakage"].examples[0]


def test_what_two_splits_share_is_found(make_ticket: Callable[..., Row]) -> None:
    from data.checks import Corpus, run_checks
    from data.chunks import of_rows

    train, validation = [make_ticket(n) for n in range(5)], [make_ticket(n) for n in range(5, 9)]
    validation[0] |= {"cluster_id": train[0]["cluster_id"]}
    validation[1] |= {"messages": train[1]["messages"]}
    validation[2] |= {"messages": json.loads(json.dumps(train[2]["messages"]).replace("twice", "thrice"))}
    corpora = [Corpus("a", of_rows(train)), Corpus("b", of_rows(validation), "validation")]
    found = {check.code: check.count for check in run_checks(corpora, TICKETS) if check.count}
    assert found == {"across_splits": 3}


def test_a_check_that_is_off_or_has_nothing_to_look_at_says_so(make_ticket: Callable[..., Row]) -> None:
    rows = [make_ticket(n) for n in range(3)]
    rows[1]["messages"][1]["content"] += " <|end|>"
    off = TICKETS.model_copy(update={"severities": TICKETS.severities | {"control_tokens": "off"}})
    check = checks_of(rows, rules=off)["control_tokens"]
    assert (check.severity, check.count) == ("off", None)
    assert "switched off" in check.message
    assert checks_of(rows)["leakage"].count is None


def test_a_key_whose_values_never_repeat_is_no_class_and_its_values_are_masked(make_ticket: Callable[..., Row]) -> None:
    rows = [make_ticket(n) for n in range(1_200)]
    for at, row in enumerate(rows):
        row["slices"] = {"seen": f"at {at}", "by": "jo.doe@" + "acme.io" if at == 7 else "us"}
    check = checks_of(rows)["balance"]
    assert check.count == 1_000 + 1
    assert check.examples[0] == "by = [e-mail of 14 characters]: 1 of 1200 rows"


def test_the_rules_that_are_shipped_are_whole_and_unknown_or_missing_keys_are_refused(tmp_path: Path) -> None:
    assert load_rules(CHATS).answer_keys is None
    text = TASK.read_text()
    for change, said in {
        ("  secrets:", "  secretz:"): "there is no check 'secretz'; the nearest is 'secrets'",
        ("  secrets: error\n", ""): "severities lacks the check 'secrets'",
        ("max_tokens:", "max_token:"): "the nearest known key is 'max_tokens'|'max_tokens' is missing",
        ("near_duplicate: 0.8", "near_duplicate: 2"): "near_duplicate",
        ("  json: error", "  json: fatal"): "severities.json",
    }.items():
        assert change[0] in text
        (tmp_path / "rules.yaml").write_text(text.replace(*change))
        with pytest.raises(DataError, match=said) as caught:
            load_rules(tmp_path / "rules.yaml")
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        load_rules(tmp_path / "none.yaml")
