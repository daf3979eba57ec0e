"""Tables that say nothing about the models are refused before any number is compared."""

from datetime import UTC, datetime, timedelta

import pytest

from eval.decide import decide
from eval.policy import MetricPolicy, Policy
from eval.scores import prompts_digest, scores_digest
from eval.summary import RunSummary

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
METRIC = MetricPolicy(name="exact_match", kind="binary", margin=0.05, min_drop=0.02)
POLICY = Policy(metrics=[METRIC], max_age_hours=24)


def summary(rows, **changed):
    return RunSummary.model_validate(
        {
            "scores": "s.jsonl",
            "answers": "s.answers.jsonl",
            "deployment": "green",
            "flow_digest": "flow",
            "judge_digest": "judge",
            "decoding": {"temperature": 0},
            "few_shot": 0,
            "repeats": 1,
            "prompts": len(rows),
            "rows": len(rows),
            "model_errors": 0,
            "infra_errors": 0,
            "metrics": {},
            "latency_ms_p50": 1.0,
            "tokens": 1,
            "seconds": 1.0,
            "answer_seconds": 1.0,
            "evaluated_at": NOW - timedelta(hours=1),
            "prompts_digest": prompts_digest(rows),
            "scores_digest": scores_digest(rows),
            **changed,
        }
    )


def judged(make, policy=POLICY, mine=None, theirs=None):
    rows = make([1.0] * 400)
    runs = summary(rows, **{"model": "new", **(mine or {})}), summary(rows, **{"model": "old", **(theirs or {})})
    return decide(rows, rows, policy, candidate_model="new", baseline_model="old", runs=runs, now=NOW)


def test_the_same_conditions_are_compared_and_the_verdict_names_them(make):
    verdict = judged(make)
    assert verdict.outcome == "pass"
    assert (verdict.judge_digest, verdict.flow_digest) == ("judge", "flow")


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        ({}, {"flow_digest": "other"}, "another flow"),
        ({"judge_digest": "other"}, {}, "another judge"),
        ({}, {"decoding": {"temperature": 1}}, "another decoding"),
        ({"model": "third"}, {}, "of model third"),
        ({}, {"scores_digest": "0"}, "not the one"),
        ({}, {"evaluated_at": NOW - timedelta(hours=25)}, "stale"),
        ({"evaluated_at": NOW - timedelta(hours=25)}, {}, "stale"),
        ({"evaluated_at": NOW + timedelta(hours=2)}, {}, "set the clock"),
    ],
)
def test_other_conditions_are_no_comparison(make, mine, theirs, words):
    verdict = judged(make, mine=mine, theirs=theirs)
    assert verdict.outcome == "invalid"
    assert words in verdict.reason


def test_a_live_model_with_examples_is_only_a_higher_bar(make):
    assert judged(make, theirs={"few_shot": 3}).outcome == "pass"


def test_repeats_are_declared_beforehand(make):
    declared = POLICY.model_copy(update={"repeats": 3})
    assert judged(make, policy=declared).outcome == "invalid"
    rows = [row for repeat in range(3) for row in make([1.0] * 400, repeat=repeat)]
    assert decide(rows, rows, declared).outcome == "pass"


def test_a_metric_may_be_about_some_prompts_only(make):
    """Half of the prompts are about it; the other half has no such score, and no say in it."""
    only = MetricPolicy(name="answered", kind="binary", margin=0.05, only={"priority": "high"})
    policy = Policy(metrics=[METRIC, only])

    def table(answered):
        rows = make([1.0] * 400)
        return [
            row.model_copy(update={"metrics": {**row.metrics, "answered": answered}}) if index % 2 else row
            for index, row in enumerate(rows)
        ]

    verdict = decide(table(1.0), table(1.0), policy)
    assert verdict.outcome == "pass"
    assert [metric.n for metric in verdict.metrics] == [400, 200]
    assert decide(table(0.0), table(1.0), policy).outcome == "fail"
    missing = [*table(1.0)[:399], make([1.0] * 400)[399]]
    assert decide(missing, table(1.0), policy).outcome == "invalid"
