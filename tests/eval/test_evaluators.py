"""The evaluators: what counts as right, to the letter."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.evaluators import EVALUATORS, exact_match, f1, field_accuracy, json_valid, parsed

GOLD = '{"category":"billing","priority":"high","product":"Holt speaker","order_id":null}'
WRONG_ONE = GOLD.replace("high", "low")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (GOLD, 1),
        (json.dumps(json.loads(GOLD), indent=2), 1),
        (json.dumps(dict(reversed(json.loads(GOLD).items()))), 1),
        (f"\n {GOLD} \n", 1),
        (WRONG_ONE, 0),
        (f"Sure: {GOLD}", 0),
        (f"{GOLD} Done.", 0),
        (f"```json\n{GOLD}\n```", 0),
        (GOLD + GOLD, 0),
        (GOLD[:-1], 0),
        (GOLD[:-1] + ',"note":"x"}', 0),
        (GOLD[:-1] + ',"priority":"high"}', 0),
        (GOLD.replace("null", '"null"'), 0),
        (GOLD.replace("null", "NaN"), 0),
        (GOLD.replace("billing", "Billing"), 0),
        ("", 0),
        ("null", 0),
    ],
)
def test_exact_match(answer, right):
    assert exact_match(answer=answer, expected=GOLD) == {"exact_match": right}


@pytest.mark.parametrize(("answer", "expected", "right"), [("1", "true", 0), ("1.0", "1", 0), ("a b", " a b ", 1)])
def test_exact_match_keeps_types_and_takes_text(answer, expected, right):
    assert exact_match(answer=answer, expected=expected) == {"exact_match": right}


@pytest.mark.parametrize(
    ("answer", "valid"), [(GOLD, 1), ("[]", 1), ("5", 0), ("", 0), ('{"a":1,"a":2}', 0), ("[" * 100_000, 0)]
)
def test_json_valid(answer, valid):
    assert json_valid(answer=answer) == {"json_valid": valid}


@pytest.mark.parametrize(
    ("answer", "share"),
    [(GOLD, 1), (WRONG_ONE, 0.75), ("{}", 0), (GOLD[:-1] + ',"x":1}', 0.8), ("[]", 0), ("no", 0)],
)
def test_field_accuracy(answer, share):
    assert field_accuracy(answer=answer, expected=GOLD) == {"field_accuracy": pytest.approx(share)}


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [("a b c", "A, b!", 0.8), ("x", "y", 0), ("", "", 1), ("", "a", 0), ("a a", "a", 2 / 3)],
)
def test_f1(answer, expected, score):
    assert f1(answer=answer, expected=expected) == {"f1": pytest.approx(score)}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_any_json_matches_itself_however_it_is_laid_out(value):
    text, other = json.dumps(value), json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    assert exact_match(answer=other, expected=text) == {"exact_match": 1}
    assert parsed(text) == (value,)


@given(st.text(), st.text())
def test_every_evaluator_gives_numbers_between_0_and_1_for_any_text(answer, expected):
    for name, evaluator in EVALUATORS.items():
        columns = {"answer": answer} if name == "json_valid" else {"answer": answer, "expected": expected}
        assert all(0 <= value <= 1 for value in evaluator(**columns).values())
