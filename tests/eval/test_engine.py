"""The engine gives what the evaluators give, row by row, or refuses."""

import inspect
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.engine import run, score_answers
from eval.errors import EvalError, InfraError
from eval.evaluators import build
from eval.metrics import Metrics

pytestmark = pytest.mark.slow  # importing promptflow-evals takes seconds

GOLD = '{"a":"é","b":1}'
ANSWERS = [GOLD, "", "no\nJSON\u2028here", '{"a":"é","b":2}', "nan", "2026-01-01", "\x00 \\ \"'", "None", "plain words"]
ENGINES = ["promptflow-evals", "azure-ai-evaluation"]
DEMO = ["exact_match", "json_valid", "field_accuracy", "f1"]


@pytest.mark.parametrize("engine", ENGINES)
def test_it_gives_the_evaluators_own_numbers_in_order(engine, tmp_path):
    (tmp_path / "schema.json").write_text('{"type": "object", "required": ["a"]}')
    chosen = {
        **dict.fromkeys([*DEMO, "rouge_l", "refusal"]),
        "json_schema": {"file": str(tmp_path / "schema.json")},
        "format": {"max_length": 5},
        "safety": {"service": "local"},
        "similarity": {},
    }
    metrics = Metrics.model_validate({"engine": engine, "evaluators": chosen})
    evaluators = build(metrics)
    rows = [{"query": "q", "answer": answer, "expected": GOLD, "context": "", "prompt_id": "p"} for answer in ANSWERS]
    for row, found in zip(rows, score_answers(rows, metrics), strict=True):
        wanted = {}
        for name, evaluator in evaluators.items():
            columns = inspect.signature(evaluator).parameters
            given = evaluator(**{column: row[column] for column in columns})
            wanted |= {(metric if metric == name else f"{name}.{metric}"): value for metric, value in given.items()}
        assert found == pytest.approx(wanted, abs=1e-5) and found.keys() == wanted.keys()
        assert {name: found[name] for name in DEMO} == {name: wanted[name] for name in DEMO}


def test_without_a_metrics_file_the_demos_metrics_are_scored():
    assert [list(row) for row in score_answers([{"answer": GOLD, "expected": GOLD}])] == [DEMO]


@pytest.mark.parametrize("engine", ENGINES)
@given(rows=st.lists(st.fixed_dictionaries(dict.fromkeys(["answer", "expected"], st.text())), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_any_text_reaches_the_evaluators_as_it_is(engine, rows):
    seen = set()

    def spy(*, answer, expected):
        seen.add((answer, expected))
        return {"spy": float(len(answer))}

    found = run(rows, {"spy": spy}, engine)
    assert found == [{"spy": len(row["answer"])} for row in rows]
    assert seen == {(row["answer"], row["expected"]) for row in rows}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("engine", ENGINES)
def test_many_evaluators_do_not_wait_for_each_other_for_ever(engine):
    def adding(i):
        return lambda answer: {"n": i + len(answer)}

    many = {f"e{i}": adding(i) for i in range(40)}
    found = run([{"answer": "abc"}, {"answer": ""}], many, engine)
    assert found == [{f"e{i}.n": i + length for i in range(40)} for length in (3, 0)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_metric_that_does_not_apply_is_left_out(engine):
    def grounded(*, answer, context):
        return {"grounded": float(bool(answer)), "words": 2.0} if context else {}

    rows = [{"answer": "a", "context": "c"}, {"answer": "a", "context": ""}, {"answer": "a"}]
    assert run(rows, {"grounded": grounded}, engine) == [{"grounded": 1, "grounded.words": 2}, {}, {}]
    assert run(rows[1:], {"grounded": grounded}, engine) == [{}, {}]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_service_that_is_not_there_is_infrastructure(engine):
    calls = []

    def remote(*, answer):
        calls.append(answer)
        raise InfraError("The service cannot be reached.")

    with pytest.raises(InfraError, match="cannot be reached"):
        run([{"answer": str(i)} for i in range(500)], {"remote": remote}, engine)
    assert len(calls) < 100  # it is not asked again and again


def test_an_evaluator_may_see_all_answers_first():
    class Longest:
        def prime(self, rows, progress):
            self.longest = max(len(row["answer"]) for row in rows)
            progress(len(rows), len(rows))

        def __call__(self, *, answer):
            return {"longest": float(len(answer) == self.longest)}

    told = []
    found = run([{"answer": "a"}, {"answer": "abc"}], {"longest": Longest()}, progress=lambda *at: told.append(at))
    assert found == [{"longest": 0}, {"longest": 1}] and told == [("longest", 2, 2)]


@pytest.mark.parametrize("text", ["1", "nan", "", "1e5", "true", "2026-01-01"])
def test_text_that_looks_like_numbers_stays_text(text):
    seen = []

    def spy(*, answer, expected):
        seen.append((answer, expected))
        return {"spy": 1.0}

    assert run([{"answer": text, "expected": text}] * 3, {"spy": spy}) == [{"spy": 1.0}] * 3
    assert seen[:3] == [(text, text)] * 3


def test_several_metrics_of_one_evaluator_are_told_apart():
    def both(*, answer):
        return {"length": len(answer), "both": 1}

    assert run([{"answer": "abc", "expected": ""}], {"both": both}) == [{"both.length": 3, "both": 1}]


class Plain:
    """An evaluator with state, as engines need it: an explicit __init__ and no **kwargs."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted

    def __call__(self, *, answer: str) -> dict[str, float]:
        return {"plain": float(answer == self.wanted)}


def test_a_class_can_be_an_evaluator():
    rows = [{"answer": answer, "expected": ""} for answer in ("x", "y")]
    assert run(rows, {"plain": Plain("x")}) == [{"plain": 1}, {"plain": 0}]


def broken(*, answer):
    if answer == "bad":
        raise RuntimeError("boom")
    return {"broken": 1.0}


@pytest.mark.parametrize(
    "evaluator",
    [
        broken,
        lambda answer: {"broken": math.nan if answer == "bad" else 1.0},
        lambda answer: {"broken": "1" if answer == "bad" else 1.0},
    ],
)
def test_a_failing_evaluator_is_refused_and_no_score_made_up(evaluator):
    with pytest.raises(EvalError, match="Evaluator broken failed on answer 2"):
        run([{"answer": "good", "expected": ""}, {"answer": "bad", "expected": ""}], {"broken": evaluator})


def test_nothing_to_score_is_refused():
    with pytest.raises(EvalError, match="no answers"):
        score_answers([])
