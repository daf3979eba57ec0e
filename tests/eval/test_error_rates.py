"""The gate's stated error rates with fixed seeds: what makes it worth blocking a release for.

One prompt per cluster and yes/no answers are counted out over every possible table, so those rates have no simulation
error. Clusters, scores and whole verdicts are simulated; `make bench BENCH=gate` runs the larger study.
"""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from eval import stats
from eval.decide import decide
from eval.looks import first_alpha, second_alpha
from eval.policy import MetricPolicy, Policy
from eval.stats import Sample, difference_interval, tango_interval
from tests.eval.conftest import rows_of
from tests.eval.counted import MARGIN, MIN_DROP, borders, rates

SIZES = [30, 50, 100, 200, 400, 800]
ALPHA = 0.05
# A score interval is an approximation: its true error wanders about 5 %, by so much while up to half the answers change
WANDERS = 0.0035
SCORES_WANDER = 0.006  # the bootstrap's, with few and skewed scores; measured with 8,000 runs
SLACK = 3.0  # standard errors of a simulation; there are some seventy of them
POLICY = Policy(metrics=[MetricPolicy(name="exact_match", kind="binary", margin=MARGIN, min_drop=MIN_DROP)])


def limit(runs: int, rate: float = ALPHA) -> float:
    return rate + SLACK * (rate * (1 - rate) / runs) ** 0.5


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("discordant", [0.05, 0.06, 0.10, 0.15, 0.20, 0.30, 0.50])
def test_yes_no_answers_hold_both_error_rates(n, discordant):
    at_margin, _ = rates(n, discordant, -MARGIN)
    _, unchanged_fails = rates(n, discordant, 0.0)
    assert at_margin <= ALPHA + WANDERS
    assert unchanged_fails <= ALPHA + WANDERS


@pytest.mark.parametrize(("n", "power"), [(100, 0.35), (200, 0.57), (400, 0.83), (800, 0.98)])
def test_power_for_an_unchanged_model_is_as_planned(n, power):
    """Planned with 15 % of the answers changing, as decision tables for a margin of five points are."""
    assert rates(n, 0.15, 0.0)[0] == pytest.approx(power, abs=0.03)


@pytest.mark.parametrize("n", SIZES)
def test_a_truly_worse_model_is_seldom_passed(n):
    assert rates(n, 0.20, -0.10)[0] <= 0.02
    assert rates(n, 0.15, -0.05)[0] <= rates(n, 0.15, 0.0)[0] <= rates(n, 0.15, 0.03)[0]


@pytest.mark.parametrize("n", [30, 100])
def test_the_decider_draws_the_borders_that_were_counted(n):
    still, from_on = borders(n)
    for gained in range(0, n // 3, 3):
        for lost in {still[gained], still[gained] + 1, from_on[gained] - 1, from_on[gained]}:
            if 0 <= lost <= n - gained:
                before = [0] * gained + [1] * (n - gained)
                after = [1] * gained + [0] * lost + [1] * (n - gained - lost)
                expected = "pass" if lost <= still[gained] else "fail" if lost >= from_on[gained] else "inconclusive"
                assert decide(rows_of(after), rows_of(before), POLICY).outcome == expected, (gained, lost)


@pytest.mark.parametrize("n", [30, 50, 100])
def test_normal_theory_would_not_have_held(n):
    """Why Tango: the Wald interval passes at the margin far too often (this test can fail if Wald were enough)."""
    discordant = 0.06
    gained, lost = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    possible = gained + lost <= n
    gained, lost = gained[possible], lost[possible]
    mean = (gained - lost) / n
    low = mean - 1.645 * np.sqrt(((gained + lost) / n - mean**2) / n)
    shares = [(discordant - MARGIN) / 2, (discordant + MARGIN) / 2, 1 - discordant]
    mass = scipy_stats.multinomial.pmf(np.stack([gained, lost, n - gained - lost], axis=1), n, shares)
    assert mass[low > -MARGIN].sum() > 0.08


def ends(table: np.ndarray, names: np.ndarray, seed: int, binary: bool) -> tuple[float, float]:
    """A bootstrap seed per run: with one for all, what is measured is how lucky that seed is."""
    return difference_interval(Sample(table.ravel(), names), binary=binary, width=1, seed=seed)


def clustered(shape: tuple[int, int, int], alike: float, shares: list[float], rng: np.random.Generator) -> np.ndarray:
    """(runs, clusters, size) of -1, 0, 1; a share `alike` of the clusters answers with one voice."""
    values = rng.choice([-1.0, 0.0, 1.0], p=shares, size=shape)
    one_voice = rng.random(shape[:2]) < alike
    return np.where(one_voice[..., None], values[..., :1], values)


@pytest.mark.parametrize(("clusters", "size"), [(30, 4), (60, 4), (200, 4), (30, 10)])
@pytest.mark.parametrize(("alike", "discordant"), [(0.0, 0.20), (0.5, 0.06), (0.5, 0.20), (1.0, 0.06), (1.0, 0.20)])
def test_clustered_answers_hold_both_error_rates(monkeypatch, clusters, size, alike, discordant):
    monkeypatch.setattr(stats, "RESAMPLES", 199)
    runs, rng = 300, np.random.default_rng(clusters * 1000 + size)
    names = np.repeat(np.arange(clusters), size)

    def intervals(delta: float) -> np.ndarray:
        shares = [(discordant - delta) / 2, 1 - discordant, (discordant + delta) / 2]
        tables = clustered((runs, clusters, size), alike, shares, rng)
        return np.array([ends(each, names, run, binary=True) for run, each in enumerate(tables)])

    assert np.mean(intervals(-MARGIN)[:, 0] > -MARGIN) <= limit(runs)
    assert np.mean(intervals(0.0)[:, 1] < 0) <= limit(runs)


def changes(kind: str, shape: tuple[int, int], delta: float, rng: np.random.Generator) -> np.ndarray:
    """Differences of a score with mean `delta`, alike within a cluster: smooth, skewed, or mostly ties."""
    clusters = (shape[0], 1)
    if kind == "skewed":
        return rng.exponential(0.1, shape) + rng.exponential(0.1, clusters) - 0.2 + delta
    if kind == "ties":  # three of ten clusters change, more often in the direction of delta
        signs = np.where(rng.random(clusters) < (1 + delta / 0.12) / 2, 1, -1)
        return np.where(rng.random(clusters) < 0.3, signs * rng.uniform(0, 0.8, shape), 0.0)
    return rng.normal(0, 0.1, shape) + rng.normal(0, 0.1, clusters) + delta


@pytest.mark.parametrize("kind", ["smooth", "skewed", "ties"])
@pytest.mark.parametrize(("clusters", "size"), [(30, 1), (40, 3), (100, 1), (400, 1)])
def test_scores_hold_both_error_rates(monkeypatch, kind, clusters, size):
    monkeypatch.setattr(stats, "RESAMPLES", 199)
    runs, rng = 700 if clusters <= 100 else 300, np.random.default_rng(12 + clusters)
    names = np.repeat(np.arange(clusters), size)

    def intervals(delta: float) -> np.ndarray:
        tables = (changes(kind, (clusters, size), delta, rng) for _ in range(runs))
        return np.array([ends(each, names, run, binary=False) for run, each in enumerate(tables)])

    assert np.mean(intervals(-MARGIN)[:, 0] > -MARGIN) <= limit(runs, ALPHA + SCORES_WANDER)
    assert np.mean(intervals(0.0)[:, 1] < 0) <= limit(runs, ALPHA + SCORES_WANDER)


@pytest.mark.parametrize(("seen", "now", "shared"), [(100, 200, 100), (200, 200, 0), (200, 400, 200), (200, 300, 200)])
def test_two_looks_together_err_no_more_than_one(seen, now, shared):
    """An inconclusive comparison judged again with more prompts: two chances to be lucky, paid for."""
    runs, rng = 3000, np.random.default_rng(seen + now)
    shares = [(0.15 - MARGIN) / 2, (0.15 + MARGIN) / 2, 0.85]

    def passed(counts: np.ndarray, alpha: float) -> np.ndarray:
        n = counts[0].sum()
        return np.array([tango_interval(int(g), int(lost), int(n), alpha)[0] > -MARGIN for g, lost, _ in counts])

    before = rng.multinomial(seen, shares, size=runs)
    after = rng.multinomial(now - shared, shares, size=runs) + (before if shared else 0)
    either = passed(before, first_alpha(ALPHA, 2)) | passed(after, second_alpha(ALPHA, seen, now, shared))
    assert either.mean() <= limit(runs)
    assert (passed(before, ALPHA) | passed(after, ALPHA)).mean() > limit(runs), "unpaid looks would have erred more"


def test_several_metrics_together_seldom_fail_an_unchanged_model():
    """Every primary metric must pass, so passing needs no correction; but any one of them can fail the candidate."""
    runs, n, names = 120, 100, ["a", "b", "c", "d"]
    rng = np.random.default_rng(5)
    policy = Policy(metrics=[POLICY.metrics[0].model_copy(update={"name": name}) for name in names])

    def side(right: np.ndarray) -> list:
        plain = rows_of([0] * n)
        return [
            row.model_copy(update={"metrics": dict(zip(names, map(float, each), strict=True))})
            for row, each in zip(plain, right, strict=True)
        ]

    failed = 0
    for _ in range(runs):
        before = rng.random((n, len(names))) < 0.8
        after = np.where(rng.random(before.shape) < 0.15, ~before, before)
        swap = rng.random(before.shape) < 0.5  # which of the two is called the candidate: so neither is better
        sides = np.where(swap, before, after), np.where(swap, after, before)
        failed += decide(side(sides[0]), side(sides[1]), policy).outcome == "fail"
    assert failed / runs <= limit(runs)
