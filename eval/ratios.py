"""How much slower or dearer a candidate is: ratios of paired positive quantities, clusters being the unit."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from eval.scores import ScoreRow
from eval.stats import RESAMPLES, Array, Interval
from eval.tables import Rows


def latency(row: ScoreRow) -> float | None:
    return None if row.latency_ms is None else max(row.latency_ms, 1e-3)


def tokens(row: ScoreRow) -> float | None:
    return None if row.tokens is None else float(max(row.tokens, 1))


class Ratios:
    """A positive quantity of both sides on the prompts that both answered; per cluster, so clusters are the unit.

    Prompts that were lost on the way may have been the slow ones: the upper end of an interval takes the candidate to
    have been without end there, the lower end leaves them out.
    """

    def __init__(self, candidate: Rows, baseline: Rows, of: Callable[[ScoreRow], float | None]) -> None:
        sides: list[dict[str, list[float]]] = []
        lost: set[str] = set()
        for rows in (candidate, baseline):
            side: dict[str, list[float]] = {}
            for row in rows:
                if row.status == "ok" and (value := of(row)) is not None:
                    side.setdefault(row.prompt_id, []).append(value)
                elif row.status == "infra_error":
                    lost.add(row.prompt_id)
            sides.append(side)
        clusters = {row.prompt_id: row.cluster_id for row in candidate}
        both = sorted((sides[0].keys() & sides[1].keys()) - lost)
        names, self.codes = np.unique([clusters[prompt] for prompt in both], return_inverse=True)
        self.groups = len(names)
        self.lost = len(lost)
        # (prompts,) geometric means over the repeats
        self.mine, self.theirs = (np.array([np.mean(np.log(side[prompt])) for prompt in both]) for side in sides)

    def median(self, alpha: float) -> tuple[float, float, float]:
        """Median over clusters of the ratio within a prompt, and its distribution-free interval."""
        sums = np.bincount(self.codes, weights=self.mine - self.theirs)
        logs: Array = sums / np.bincount(self.codes)
        low, _ = median_interval(logs, alpha)
        _, high = median_interval(np.concatenate([logs, np.full(self.lost, np.inf)]), alpha)
        return float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high))

    def p95(self, alpha: float, seed: int) -> tuple[float, float, float]:
        """Ratio of the two sides' 95th percentiles; whole clusters are resampled, both sides together."""
        mine, theirs = np.exp(self.mine), np.exp(self.theirs)
        value, low, high = quantile_ratio(mine, theirs, self.codes, 0.95, alpha, seed)
        if self.lost:
            codes = np.concatenate([self.codes, np.arange(self.lost) + self.groups])
            mine = np.concatenate([mine, np.full(self.lost, np.inf)])
            theirs = np.concatenate([theirs, np.full(self.lost, theirs.min())])
            high = max(high, quantile_ratio(mine, theirs, codes, 0.95, alpha, seed)[2])
        return value, low, high


def median_interval(values: Array, alpha: float = 0.05) -> Interval:
    """Distribution-free interval for a median from order statistics; infinite where n is too small to bound it."""
    ordered, n = np.sort(values), len(values)
    # The least rank that so many fair coins stay at or below with a probability of alpha or more.
    rank = int(np.searchsorted(special.bdtr(np.arange(n + 1), n, 0.5), alpha))
    if rank < 1:
        return float("-inf"), float("inf")
    return float(ordered[rank - 1]), float(ordered[n - rank])


def quantile_ratio(
    mine: Array, theirs: Array, clusters: NDArray[np.intp], quantile: float, alpha: float, seed: int
) -> tuple[float, float, float]:
    """Ratio of two paired samples' quantiles and its percentile bootstrap interval, clusters resampled whole.

    `mine` and `theirs` are (n,) positive, of the same prompts. A resample draws clusters; a prompt then counts as often
    as its cluster was drawn.
    """
    rng = np.random.default_rng(seed)
    groups = int(clusters.max()) + 1
    orders = [np.argsort(values, kind="stable") for values in (mine, theirs)]

    def at(order: NDArray[np.intp], values: Array, weights: Array) -> float:
        running = np.cumsum(weights[order])
        return float(values[order[np.searchsorted(running, quantile * running[-1])]])

    def ratio(weights: Array) -> float:
        return at(orders[0], mine, weights) / at(orders[1], theirs, weights)

    drawn = (
        np.bincount(rng.integers(0, groups, groups), minlength=groups).astype(float)[clusters] for _ in range(RESAMPLES)
    )
    ratios = np.sort([ratio(weights) for weights in drawn])
    rank = int(np.floor((RESAMPLES + 1) * alpha))
    if rank < 1:  # so small a risk that no resample is far enough out to bound it
        return ratio(np.ones(len(mine))), 0.0, float("inf")
    return ratio(np.ones(len(mine))), float(ratios[rank - 1]), float(ratios[RESAMPLES - rank])
