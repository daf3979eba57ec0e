"""The three e-processes, against scipy, published numbers and their own promise, however often looked at."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, nchypergeom_fisher

from scripts.rollout import harm

LOG_20 = math.log(20)
counts = st.integers(0, 60)


@st.composite
def batches(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int]]:
    requests, requests_there = draw(counts), draw(counts)
    return (draw(st.integers(0, requests)), requests), (draw(st.integers(0, requests_there)), requests_there)


@given(batches(), st.sampled_from([1.0, 1.25, 2.0]))
@settings(max_examples=60)
def test_the_ratio_is_fishers_noncentral_hypergeometric(
    batch: tuple[tuple[int, int], tuple[int, int]], worse_than: float
) -> None:
    (bad, n), (bad_there, m) = batch
    got = harm.harm_increments(*batch, worse_than)
    total = bad + bad_there
    if not total or not n or not m:
        assert not got.any()
        return

    def log(odds: float) -> float:
        return float(nchypergeom_fisher.logpmf(bad, n + m, n, total, odds))

    expected = [log(odds) - log(worse_than) for odds in harm.odds_ratios(worse_than)]
    assert got == pytest.approx(expected, abs=1e-6, rel=1e-6)


@given(st.integers(1, 25), st.integers(1, 25), st.integers(1, 12), st.sampled_from([0.2, 0.8, 1.25]))
@settings(max_examples=60)
def test_it_is_a_fair_bet_for_every_odds_ratio_up_to_the_tolerated(n: int, m: int, total: int, odds: float) -> None:
    """The expected e-value, summed over every outcome, is at most 1: exactly what Ville's inequality needs."""
    total = min(total, n + m)
    low, high = max(0, total - m), min(n, total)
    expected = sum(
        nchypergeom_fisher.pmf(bad, n + m, n, total, odds)
        * math.exp(harm.mixture(harm.harm_increments((bad, n), (total - bad, m), 1.25)))
        for bad in range(low, high + 1)
    )
    assert expected <= 1 + 1e-9


@given(batches())
def test_more_harm_is_never_less_evidence(batch: tuple[tuple[int, int], tuple[int, int]]) -> None:
    (bad, n), (bad_there, m) = batch
    if bad < n and bad_there:
        more = harm.mixture(harm.harm_increments((bad + 1, n), (bad_there - 1, m), 1.25))
        assert more >= harm.mixture(harm.harm_increments((bad, n), (bad_there, m), 1.25)) - 1e-9


@pytest.mark.parametrize("batch", [((2, 1), (0, 1)), ((-1, 1), (0, 1)), ((0, 1), (2, 1))])
def test_counts_that_cannot_be_are_refused(batch: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="cannot be bad"):
        harm.harm_increments(*batch, 1.25)


@pytest.mark.parametrize(("limit", "needed"), [(0.01, 392), (0.05, 77)])
def test_clean_requests_until_a_service_level_is_shown(limit: float, needed: int) -> None:
    """As simulated beforehand (decision statistics: 392 for 1 %, 77 for 5 %)."""
    assert harm.requests_needed(limit, 0.05) == needed
    assert harm.below_limit(0, needed, limit) >= LOG_20 > harm.below_limit(0, needed - 1, limit)


@given(st.integers(0, 400), st.integers(0, 10), st.sampled_from([0.01, 0.05, 0.2]))
def test_a_bad_request_more_is_less_evidence_for_the_service_level(good: int, bad: int, limit: float) -> None:
    assert harm.below_limit(bad + 1, good + bad + 1, limit) <= harm.below_limit(bad, good + bad + 1, limit) + 1e-9


@given(st.integers(1, 300), st.sampled_from([0.01, 0.05, 0.2]), st.sampled_from([1.0, 1.5, 3.0]))
@settings(max_examples=40)
def test_at_the_limit_or_above_it_the_expected_e_value_is_at_most_one(n: int, limit: float, times: float) -> None:
    bad = np.arange(n + 1)
    values = np.array([harm.below_limit(int(k), n, limit) for k in bad])
    assert float(np.sum(binom.pmf(bad, n, min(1.0, limit * times)) * np.exp(values))) <= 1 + 1e-6


@given(st.integers(1, 300), st.sampled_from([0.01, 0.05, 0.2]), st.sampled_from([1.0, 0.5, 0.0]))
@settings(max_examples=40)
def test_at_the_limit_or_below_it_being_above_is_a_fair_bet_too(n: int, limit: float, times: float) -> None:
    bad = np.arange(n + 1)
    chances = binom.logpmf(bad, n, limit * times)
    values = np.array([harm.above_limit(int(k), n, limit) for k in bad])
    assert float(np.exp(chances + values)[np.isfinite(chances)].sum()) <= 1 + 1e-6


def test_total_failure_is_above_any_limit_and_below_none() -> None:
    for requests in (3, 1000, 100_000):
        assert harm.above_limit(requests, requests, 0.05) > LOG_20
        assert harm.below_limit(requests, requests, 0.05) < 0


@given(st.floats(-1, 0.05), st.floats(0, 1))
def test_probes_are_a_fair_game_up_to_the_margin(mean: float, spread: float) -> None:
    """Of drops that are 1, 0 or -1 with a mean up to the margin, the expected factor of every bet is at most 1."""
    up = max(mean, 0.0) + spread * (1 - abs(mean)) / 2
    down = up - mean
    chances = {1.0: up, -1.0: down, 0.0: 1 - up - down}
    expected = sum(chance * np.exp(harm.probe_increments(drop, 0.05)) for drop, chance in chances.items())
    assert (expected <= 1 + 1e-9).all()


def test_probes_find_a_clear_drop_within_the_most_that_are_asked() -> None:
    random = np.random.default_rng(2)
    drops = random.choice([1.0, 0.0, -1.0], size=(200, 400), p=[0.35, 0.5, 0.15])
    wealth = np.cumsum([[harm.probe_increments(float(drop), 0.05) for drop in row] for row in drops[:50]], axis=1)
    reached = np.log(np.exp(wealth).mean(axis=2)).max(axis=1)
    assert (reached >= LOG_20).mean() >= 0.9


@pytest.mark.parametrize("drop", [1.01, -1.01, math.nan])
def test_a_drop_outside_its_range_is_refused(drop: float) -> None:
    with pytest.raises(ValueError, match="from -1 to 1"):
        harm.probe_increments(drop, 0.05)
