"""The engine gives what the evaluators give, row by row, or refuses."""

import math

import pytest

from eval.engine import score_answers
from eval.errors import EvalError
from eval.evaluators import EVALUATORS

pytestmark = pytest.mark.slow  # importing promptflow-evals takes seconds

GOLD = '{"a":"é","b":1}'
ANSWERS = [GOLD, "", "no\nJSON\u2028here", '{"a":"é","b":2}', "nan", "2026-01-01", "\x00 \\ \"'"]


def test_it_gives_the_evaluators_own_numbers_in_order():
    rows = [{"answer": answer, "expected": GOLD} for answer in ANSWERS]
    for row, metrics in zip(rows, score_answers(rows), strict=True):
        assert list(metrics) == list(EVALUATORS)
        assert metrics["exact_match"] == EVALUATORS["exact_match"](**row)["exact_match"]
        assert metrics["field_accuracy"] == EVALUATORS["field_accuracy"](**row)["field_accuracy"]
        assert metrics["json_valid"] == EVALUATORS["json_valid"](answer=row["answer"])["json_valid"]
        assert metrics["f1"] == EVALUATORS["f1"](**row)["f1"]


@pytest.mark.parametrize("text", ["1", "nan", "", "1e5", "true", "2026-01-01"])
def test_text_that_looks_like_numbers_stays_text(text):
    seen = []

    def spy(*, answer, expected):
        seen.append((answer, expected))
        return {"spy": 1.0}

    assert score_answers([{"answer": text, "expected": text}] * 3, {"spy": spy}) == [{"spy": 1.0}] * 3
    assert seen[:3] == [(text, text)] * 3


def test_several_metrics_of_one_evaluator_are_told_apart():
    def both(*, answer):
        return {"length": len(answer), "both": 1}

    assert score_answers([{"answer": "abc", "expected": ""}], {"both": both}) == [{"both.length": 3, "both": 1}]


class Plain:
    """An evaluator with state, as engines need it: an explicit __init__ and no **kwargs."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted

    def __call__(self, *, answer: str) -> dict[str, float]:
        return {"plain": float(answer == self.wanted)}


def test_a_class_can_be_an_evaluator():
    rows = [{"answer": answer, "expected": ""} for answer in ("x", "y")]
    assert score_answers(rows, {"plain": Plain("x")}) == [{"plain": 1}, {"plain": 0}]


def broken(*, answer):
    if answer == "bad":
        raise RuntimeError("boom")
    return {"broken": 1.0}


@pytest.mark.parametrize(
    "evaluator",
    [broken, lambda answer: {"broken": math.nan if answer == "bad" else 1.0}, lambda answer: {"broken": answer}],
)
def test_a_failing_evaluator_is_refused_and_no_score_made_up(evaluator):
    with pytest.raises(EvalError, match="Evaluator broken"):
        score_answers([{"answer": "good", "expected": ""}, {"answer": "bad", "expected": ""}], {"broken": evaluator})


def test_nothing_to_score_is_refused():
    with pytest.raises(EvalError, match="no answers"):
        score_answers([])
