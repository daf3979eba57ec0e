"""The intervals against published values, and the properties that any interval must have."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from eval.ratios import median_interval
from eval.stats import (
    Sample,
    bootstrap_t,
    cluster_variance,
    difference_interval,
    effective_n,
    harm_p_value,
    holm,
    mean_interval,
    tango_interval,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("gained", "lost", "n", "alpha", "low", "high"),
    [
        # Tango 1998, lens disinfection: 43 successes of both, 1 of the standard alone; 90 %.
        (0, 1, 44, 0.05, -0.096, 0.037),
        # Fagerland, Lydersen & Laake 2014, airway reactivity (1, 1, 7, 12); 95 %.
        (1, 7, 21, 0.025, -0.517, -0.026),
        # R PropCIs scoreci.mp(25, 28, 618) at 90 %.
        (28, 25, 618, 0.05, -0.0148, 0.0247),
    ],
)
def test_tango_gives_published_values(gained, lost, n, alpha, low, high):
    digits = 4 if n == 618 else 3
    ends = tango_interval(gained, lost, n, alpha)
    assert [round(end, digits) for end in ends] == [low, high]


def test_tango_of_ties_has_the_width_of_its_formula():
    z2 = scipy_stats.norm.ppf(0.95) ** 2
    low, high = tango_interval(0, 0, 10)
    assert high == pytest.approx(z2 / (10 + z2)) and low == -high


counts = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200)).filter(lambda c: sum(c) > 0)


@given(counts, st.sampled_from([0.01, 0.05, 0.2]))
def test_tango_mirrors_contains_the_point_and_stays_in_range(table, alpha):
    gained, lost, tied = table
    n = gained + lost + tied
    low, high = tango_interval(gained, lost, n, alpha)
    assert -1 <= low <= (gained - lost) / n + 1e-9 and (gained - lost) / n - 1e-9 <= high <= 1
    assert tango_interval(lost, gained, n, alpha) == pytest.approx((-high, -low), abs=1e-9)


@given(counts)
def test_tango_is_wider_with_less_risk(table):
    gained, lost, tied = table
    n = gained + lost + tied
    strict, loose = tango_interval(gained, lost, n, 0.01), tango_interval(gained, lost, n, 0.1)
    assert strict[0] <= loose[0] + 1e-9 and loose[1] <= strict[1] + 1e-9


@given(st.integers(0, 50), st.integers(0, 50))
def test_wilson_agrees_with_scipy(good, bad):
    n = good + bad
    if n:
        ours = wilson_interval(good, n, 0.05)
        theirs = scipy_stats.binomtest(good, n).proportion_ci(0.90, method="wilson")
        assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)


samples = st.lists(
    st.tuples(st.floats(-1, 1, allow_nan=False).map(lambda x: round(x, 3)), st.integers(0, 12)), min_size=5, max_size=60
)


@settings(max_examples=40, deadline=None)
@given(samples, st.randoms())
def test_bootstrap_ignores_order_and_names_and_mirrors(pairs, random):
    values, clusters = zip(*pairs, strict=True)
    low, high = bootstrap_t(Sample.of(values, clusters), 0.05, 7)
    shuffled = list(pairs)
    random.shuffle(shuffled)
    moved = Sample.of([v for v, _ in shuffled], [f"name-{99 - c}" for _, c in shuffled])
    assert bootstrap_t(moved, 0.05, 7) == pytest.approx((low, high))
    assert bootstrap_t(Sample.of([-v for v in values], clusters), 0.05, 7) == pytest.approx((-high, -low))


def test_bootstrap_agrees_with_normal_theory_where_that_holds():
    values = np.random.default_rng(4).normal(0.3, 1, 400)
    sample = Sample.of(values, np.arange(400))
    low, high = bootstrap_t(sample, 0.05, 1)
    half = 1.645 * math.sqrt(cluster_variance(sample))
    assert (low, high) == pytest.approx((sample.mean - half, sample.mean + half), abs=0.15 * half)


def test_memory_saving_path_gives_a_like_interval():
    values = np.random.default_rng(5).normal(0, 1, 65)
    small = bootstrap_t(Sample.of(values[:64], np.arange(64)), 0.05, 1)
    large = bootstrap_t(Sample.of(values, np.arange(65)), 0.05, 1)
    assert large == pytest.approx(small, abs=0.1)


def test_copies_within_a_cluster_are_worth_one_prompt():
    once = np.random.default_rng(6).choice([-1.0, 0.0, 1.0], 60, p=[0.15, 0.7, 0.15])
    copied = Sample.of(np.repeat(once, 4), np.repeat(np.arange(60), 4))
    assert 50 < effective_n(copied) <= 62
    alone = difference_interval(Sample.of(once, np.arange(60)), binary=True, width=1)
    clustered = difference_interval(copied, binary=True, width=1)
    assert clustered[1] - clustered[0] > 0.93 * (alone[1] - alone[0])


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("n", [10, 30, 100])
def test_ties_never_collapse_the_interval(binary, n):
    low, high = difference_interval(Sample.of(np.zeros(n), np.arange(n)), binary=binary, width=1)
    z2 = scipy_stats.norm.ppf(0.95) ** 2
    assert high == pytest.approx(z2 / (n + z2)) and low == pytest.approx(-high)


def test_a_perfect_side_is_not_certain():
    low, high = mean_interval(Sample.of(np.ones(30), np.arange(30)), binary=False, bounds=(0, 1))
    assert low == pytest.approx(wilson_interval(30, 30)[0]) and high == pytest.approx(1)


def test_harm_p_value_is_the_exact_sign_test():
    sample = Sample.of([-1] * 9 + [1] + [0] * 20, range(30))
    assert harm_p_value(sample) == pytest.approx(scipy_stats.binomtest(1, 10, alternative="less").pvalue)
    assert harm_p_value(Sample.of([0.0] * 30, range(30))) == 1


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([], 0.05) == []


def test_median_interval_covers_and_needs_enough():
    assert median_interval(np.arange(4.0)) == (-math.inf, math.inf)
    rng = np.random.default_rng(8)
    misses = sum(median_interval(rng.normal(size=41))[0] > 0 for _ in range(2000))
    assert misses / 2000 <= 0.05
