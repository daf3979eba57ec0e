"""The gate's stated error rates, by simulation with fixed seeds: what makes it worth blocking a release for."""

import numpy as np
import pytest

from eval import stats
from eval.stats import Sample, difference_interval, tango_interval

MARGIN = 0.05
SLACK = 2.6  # standard errors of the simulation itself


def limit(rate: float, runs: int) -> float:
    return rate + SLACK * (rate * (1 - rate) / runs) ** 0.5


def tables(n: int, discordant: float, delta: float, runs: int, seed: int) -> np.ndarray:
    """(runs, 3) counts of gained, lost, tied pairs of a candidate that is truly `delta` better."""
    gained, lost = (discordant + delta) / 2, (discordant - delta) / 2
    return np.random.default_rng(seed).multinomial(n, [gained, lost, 1 - gained - lost], size=runs)


def rates(counts: np.ndarray, n: int) -> tuple[float, float]:
    """Shares of PASS (lower bound above the margin) and of FAIL (upper bound below zero, drop above two points)."""
    ends = [(*tango_interval(int(g), int(lost), n), (g - lost) / n) for g, lost, _ in counts]
    passed = np.mean([low > -MARGIN for low, _, _ in ends])
    failed = np.mean([high < 0 and low <= -MARGIN and -point > 0.02 for low, high, point in ends])
    return float(passed), float(failed)


@pytest.mark.parametrize("n", [30, 50, 100, 200, 400, 800])
@pytest.mark.parametrize("discordant", [0.06, 0.15, 0.30])
def test_tango_holds_both_error_rates(n, discordant):
    runs = 4000
    at_margin, _ = rates(tables(n, discordant, -MARGIN, runs, seed=n), n)
    _, unchanged_fails = rates(tables(n, discordant, 0.0, runs, seed=n + 1), n)
    assert at_margin <= limit(0.05, runs)
    assert unchanged_fails <= limit(0.05, runs)


@pytest.mark.parametrize(("n", "power"), [(100, 0.35), (200, 0.57), (400, 0.83), (800, 0.98)])
def test_power_for_an_unchanged_model_is_as_planned(n, power):
    passed, _ = rates(tables(n, 0.15, 0.0, 4000, seed=n + 2), n)
    assert passed == pytest.approx(power, abs=0.05)


@pytest.mark.parametrize("n", [30, 50, 100])
def test_normal_theory_would_not_have_held(n):
    """Why Tango: the Wald interval passes at the margin far too often (this test can fail if Wald were enough)."""
    counts = tables(n, 0.06, -MARGIN, 4000, seed=n)
    mean, squares = (counts[:, 0] - counts[:, 1]) / n, (counts[:, 0] + counts[:, 1]) / n
    low = mean - 1.645 * np.sqrt((squares - mean**2) / n)
    assert np.mean(low > -MARGIN) > 0.08


@pytest.mark.parametrize(("clusters", "size"), [(30, 4), (60, 4), (30, 10)])
@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("discordant", [0.06, 0.20])
def test_clustered_answers_hold_both_error_rates(monkeypatch, clusters, size, alike, discordant):
    monkeypatch.setattr(stats, "RESAMPLES", 199)
    runs, rng = 250, np.random.default_rng(clusters * 1000 + size)

    def interval(delta: float) -> tuple[float, float]:
        lost, gained = (discordant - delta) / 2, (discordant + delta) / 2
        values = rng.choice([-1.0, 0.0, 1.0], p=[lost, 1 - lost - gained, gained], size=(clusters, size))
        copies = rng.random(clusters) < alike
        values[copies] = values[copies, :1]
        sample = Sample.of(values.ravel(), np.repeat(np.arange(clusters), size))
        return difference_interval(sample, binary=True, width=1)

    passed = np.mean([interval(-MARGIN)[0] > -MARGIN for _ in range(runs)])
    failed = np.mean([interval(0.0)[1] < 0 for _ in range(runs)])
    assert passed <= limit(0.05, runs)
    assert failed <= limit(0.05, runs)


@pytest.mark.parametrize("skewed", [False, True])
def test_scores_hold_both_error_rates(monkeypatch, skewed):
    monkeypatch.setattr(stats, "RESAMPLES", 199)
    runs, rng = 400, np.random.default_rng(11)

    def interval(delta: float) -> tuple[float, float]:
        noise = rng.exponential(0.1, (40, 3)) - 0.1 if skewed else rng.normal(0, 0.1, (40, 3))
        noise += (rng.exponential(0.1, (40, 1)) - 0.1) if skewed else rng.normal(0, 0.1, (40, 1))
        sample = Sample.of((noise + delta).ravel(), np.repeat(np.arange(40), 3))
        return difference_interval(sample, binary=False, width=1)

    passed = np.mean([interval(-MARGIN)[0] > -MARGIN for _ in range(runs)])
    failed = np.mean([interval(0.0)[1] < 0 for _ in range(runs)])
    assert passed <= limit(0.05, runs)
    assert failed <= limit(0.05, runs)
