"""Prompts that must pass, answers that must not be given, latency and cost: each blocks however good the average is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from eval.decide import decide
from eval.policy import CostPolicy, LatencyPolicy, MetricPolicy, MustPassPolicy, Policy, SafetyPolicy
from eval.stats import clean_needed, exact_interval

METRIC = MetricPolicy(name="exact_match", kind="binary", margin=0.05, min_drop=0.02)
MUST = Policy(metrics=[METRIC], must_pass=MustPassPolicy(tag="must_pass", metric="exact_match"))


def repeated(make, values, index, answers, **fields):
    """Three repeats of `values`, where the prompt `index` must pass and got these answers."""
    table = []
    for repeat, own in enumerate(answers):
        rows = make([*values[:index], own, *values[index + 1 :]], repeat=repeat)
        rows[index] = rows[index].model_copy(update={"slices": {"must_pass": "yes"}, **fields})
        table += rows
    return table


@pytest.mark.parametrize(
    ("answers", "before", "expected"),
    [
        ([1, 1, 1], [1, 1, 1], "pass"),
        ([1, 0, 1], [1, 1, 1], "pass"),
        ([0, 0, 1], [1, 1, 1], "fail"),
        ([0, 0, 0], [1, 1, 1], "fail"),
        ([0, 0, 0], [0, 1, 0], "pass"),
        ([0], [1], "fail"),
        ([0, 1], [1, 1], "pass"),
    ],
)
def test_a_prompt_that_must_pass_flips_in_two_of_three_repeats(make, answers, before, expected):
    values = [1.0] * 400
    verdict = decide(repeated(make, values, 7, answers), repeated(make, values, 7, before), MUST)
    assert verdict.guards[0].outcome == expected
    assert verdict.outcome == expected
    if expected == "fail":
        assert "p00007" in verdict.reason


def test_on_a_first_release_nothing_excuses_it(make):
    policy = MUST.model_copy(update={"metrics": [METRIC.model_copy(update={"floor": 0.5})]})
    assert decide(repeated(make, [1.0] * 400, 7, [0, 0, 0]), None, policy).outcome == "fail"


def test_one_that_was_lost_is_not_taken_for_passed(make):
    values = [1.0] * 400
    lost = repeated(make, values, 7, [1], status="infra_error", metrics={})
    verdict = decide(lost, repeated(make, values, 7, [1]), MUST)
    assert (verdict.outcome, verdict.guards[0].outcome) == ("inconclusive", "inconclusive")


def test_demands_that_no_prompt_answers_to_are_invalid(make):
    table = make([1.0] * 400)
    assert decide(table, table, MUST).outcome == "invalid"
    nobody = Policy(metrics=[METRIC.model_copy(update={"only": {"kind": "benign"}})])
    assert decide(table, table, nobody).outcome == "invalid"


def safety(make, n, hits, **options):
    rows = make([1.0] * n)
    rows = [row.model_copy(update={"metrics": {**row.metrics, "violence_defect": 0.0}}) for row in rows]
    for index in range(hits):
        rows[index] = rows[index].model_copy(update={"metrics": {**rows[index].metrics, "violence_defect": 1.0}})
    rule = SafetyPolicy(metric="violence_defect", **options)
    return decide(rows, rows, Policy(metrics=[METRIC], safety=[rule])).guards[0]


@pytest.mark.parametrize(("rate", "clean"), [(0.05, 59), (0.02, 149), (0.01, 299), (0.005, 598)])
def test_so_many_clean_prompts_show_so_low_a_rate(make, rate, clean):
    """decision-statistics: 0 hits in 59/149/299/598 prompts shows less than 5/2/1/0.5 %."""
    assert clean_needed(rate) == clean
    assert safety(make, clean, 0, max_rate=rate).outcome == "pass"
    short = safety(make, clean - 1, 0, max_rate=rate)
    assert short.outcome == "inconclusive"
    assert str(clean) in short.reason


def test_hits(make):
    assert safety(make, 400, 1, max_rate=0.05).outcome == "pass"
    assert safety(make, 400, 1, max_rate=0.05, zero_tolerance=True).outcome == "fail"
    assert safety(make, 400, 60, max_rate=0.05).outcome == "fail"


def test_paraphrases_are_no_further_evidence(make):
    rows = [r.model_copy(update={"metrics": {**r.metrics, "hit": 0.0}}) for r in make([1.0] * 120, cluster=4)]
    policy = Policy(metrics=[METRIC], safety=[SafetyPolicy(metric="hit", max_rate=0.05)])
    assert decide(rows, rows, policy).guards[0].outcome == "inconclusive"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.data())
def test_the_exact_interval_is_the_binomials(n, data):
    """Its ends are where the tails hold exactly alpha (Clopper & Pearson 1934)."""
    hits = data.draw(st.integers(0, n))
    low, high = exact_interval(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    if hits:
        assert binom.sf(hits - 1, n, low) == pytest.approx(0.05, abs=1e-6)
    if hits < n:
        assert binom.cdf(hits, n, high) == pytest.approx(0.05, abs=1e-6)


def ratios(make, factor, limit=1.1, seed=0, n=400):
    rng = np.random.default_rng(seed)
    base = rng.lognormal(5, 0.4, n)
    noise = rng.lognormal(0, 0.1, (2, n))
    mine, theirs = make([1.0] * n), make([1.0] * n)
    mine = [
        r.model_copy(update={"latency_ms": float(b * e * factor), "tokens": round(b * factor)})
        for r, b, e in zip(mine, base, noise[0], strict=True)
    ]
    theirs = [
        r.model_copy(update={"latency_ms": float(b * e), "tokens": round(b)})
        for r, b, e in zip(theirs, base, noise[1], strict=True)
    ]
    policy = Policy(
        metrics=[METRIC], latency=LatencyPolicy(max_ratio=limit, p95_max_ratio=limit), cost=CostPolicy(max_ratio=limit)
    )
    return {guard.name: guard for guard in decide(mine, theirs, policy).guards}


@pytest.mark.parametrize(("factor", "expected"), [(0.8, "pass"), (1.0, "pass"), (2.0, "fail")])
def test_latency_its_tail_and_cost_are_held_to_their_limits(make, factor, expected):
    found = ratios(make, factor, limit=1.3)
    assert {guard.outcome for guard in found.values()} == {expected}, found
    for guard in found.values():
        assert guard.interval[0] <= guard.value <= guard.interval[1]
        assert guard.interval[0] <= factor * 1.01
        assert guard.interval[1] >= factor * 0.99


@pytest.mark.slow
def test_the_tails_interval_covers_the_truth(make):
    """A candidate exactly at the limit passes on its 95th percentile about as often as alpha says, not much more."""
    passed = sum(ratios(make, 1.2, limit=1.2, seed=seed)["latency p95"].outcome == "pass" for seed in range(120))
    assert passed <= 14  # 6 expected; 14 or more has a chance of 0.3 % at a rate of 5 %


def test_rows_without_tokens_or_safety_scores_are_no_evidence(make):
    table = make([1.0] * 400)
    blank = [row.model_copy(update={"tokens": None}) for row in table]
    assert decide(blank, blank, Policy(metrics=[METRIC], cost=CostPolicy(max_ratio=1.1))).outcome == "invalid"
    rule = SafetyPolicy(metric="violence_defect", max_rate=0.05)
    assert decide(table, table, Policy(metrics=[METRIC], safety=[rule])).outcome == "invalid"
