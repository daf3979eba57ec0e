"""How many more prompts an undecided metric needs."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.decide import decide
from eval.policy import MetricPolicy, Policy
from tests.eval.conftest import rows_of

METRIC = MetricPolicy(name="exact_match", kind="binary", margin=0.05, min_drop=0.02)
POLICY = Policy(metrics=[METRIC])


def metric(n, gained, lost):
    mine, theirs = [1.0] * n, [1.0] * n
    for index in range(lost):
        mine[index] = 0.0
    for index in range(lost, lost + gained):
        theirs[index] = 0.0
    return decide(rows_of(mine), rows_of(theirs), POLICY).metrics[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(40, 150), st.integers(0, 12), st.integers(0, 12))
def test_so_many_more_of_the_same_decide(n, gained, lost):
    """The same rates on about as many prompts as were asked for decide it, or leave less to ask for."""
    found = metric(n, gained, lost)
    if found.outcome != "inconclusive" or found.more_prompts is None:
        return
    factor = (n + found.more_prompts) / n * 1.1
    more, fewer = (math.ceil, math.floor) if (lost - gained) / n < METRIC.margin else (math.floor, math.ceil)
    # Whole prompts, rounded so that the rates come no nearer to the margin.
    grown = metric(round(n * factor), more(gained * factor), fewer(lost * factor))
    assert grown.outcome != "inconclusive" or grown.more_prompts < found.more_prompts / 2 + 5


def test_what_is_decided_needs_none_and_what_lies_at_the_margin_no_number():
    assert metric(800, 0, 0).more_prompts is None
    assert metric(100, 0, 5).more_prompts is None  # exactly the margin


def test_too_few_prompts_say_how_many_are_missing():
    assert metric(12, 0, 0).more_prompts == POLICY.min_rows - 12


@pytest.mark.parametrize(("n", "most"), [(60, 400), (120, 300)])
def test_an_unchanged_model_needs_a_number_that_people_can_gather(n, most):
    """Ten in a hundred flip both ways: 371 prompts have 80 % power at this margin (decision-statistics)."""
    found = metric(n, n // 20, n // 20)
    assert found.outcome == "inconclusive"
    assert 0 < found.more_prompts < most
