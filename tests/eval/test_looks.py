"""A second look is paid for: published bounds, and the error rate of the whole procedure by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eval.decide import Earlier, decide
from eval.looks import first_alpha, second_alpha
from eval.policy import MetricPolicy, Policy

TWICE = Policy(looks=2, metrics=[MetricPolicy(name="exact_match", kind="binary", margin=0.05, min_drop=0.02)])
MODELS = {"candidate_model": "new", "baseline_model": "old"}


@pytest.mark.parametrize(("alpha", "bound"), [(0.05, 1.875), (0.025, 2.178), (0.005, 2.772)])
def test_the_first_level_is_pococks(alpha, bound):
    """Pocock 1977, table 1, two groups: 1.875, 2.178 and 2.772 for two-sided 0.10, 0.05 and 0.01."""
    assert stats.norm.isf(first_alpha(alpha, 2)) == pytest.approx(bound, abs=0.001)
    assert first_alpha(alpha, 1) == alpha


@given(st.floats(0.001, 0.2), st.integers(1, 500), st.integers(1, 500), st.floats(0, 1))
def test_the_second_never_gets_more_than_the_first(alpha, seen, now, share):
    shared = int(share * min(seen, now))
    assert 0 < second_alpha(alpha, seen, now, shared) <= first_alpha(alpha, 2) + 1e-9 < alpha


@pytest.mark.parametrize(("seen", "more", "kept"), [(100, 100, 100), (100, 300, 100), (100, 100, 0)])
def test_both_looks_together_err_at_most_alpha(seen, more, kept):
    """A candidate at the margin that is judged again, with more prompts or other ones, whenever it did not pass."""
    rng, runs, alpha = np.random.default_rng(seen + more + kept), 200_000, 0.05
    first, new = rng.normal(size=runs) * seen**0.5, rng.normal(size=runs) * more**0.5  # sums under the null
    now = kept + more
    z1, z2 = first / seen**0.5, (first * (kept == seen) + new) / now**0.5
    passed = z1 > stats.norm.isf(first_alpha(alpha, 2))
    passed |= z2 > stats.norm.isf(second_alpha(alpha, seen, now, kept))
    assert passed.mean() == pytest.approx(alpha, abs=0.002)


def test_a_second_look_is_judged_at_its_own_level(make):
    first = decide(make([1] * 30), make([1] * 29 + [0]), TWICE, **MODELS)
    assert (first.outcome, first.look, first.alpha) == ("inconclusive", 1, pytest.approx(0.0304, abs=1e-4))
    table = make([1] * 400)
    again = decide(table, make([1] * 399 + [0]), TWICE, **MODELS, earlier=Earlier(first, table[:30]))
    assert (again.outcome, again.look) == ("pass", 2)
    assert again.alpha == pytest.approx(second_alpha(0.05, 30, 400, 30))
    assert again.alpha > decide(table, make([1] * 400), TWICE, **MODELS, earlier=Earlier(first)).alpha


def test_there_is_no_third_look_and_no_second_where_one_was_declared(make):
    once = TWICE.model_copy(update={"looks": 1})
    table = make([1] * 400)
    first = decide(make([1] * 30), make([1] * 29 + [0]), once, **MODELS)
    again = decide(table, table, once, **MODELS, earlier=Earlier(first))
    assert again.outcome == "invalid"
    assert "judged once" in again.reason
    second = decide(make([1] * 30), make([1] * 29 + [0]), TWICE, **MODELS).model_copy(update={"look": 2})
    assert decide(table, table, TWICE, **MODELS, earlier=Earlier(second)).outcome == "invalid"


def test_a_look_at_something_else_is_none(make):
    table = make([1] * 400)
    first = decide(table[:30], table[:30], TWICE, candidate_model="another", baseline_model="old")
    assert decide(table, table, TWICE, **MODELS, earlier=Earlier(first)).outcome == "invalid"
