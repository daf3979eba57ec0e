"""Interval estimates for paired scores: Tango and Wilson score intervals for yes/no, cluster bootstrap-t for numbers.

All intervals are two-sided with `alpha` in each tail, so each end is a one-sided 1 - alpha bound. The distributions are
those of scipy.special (`ndtri`, `stdtrit`, …): scipy.stats calls the same, and takes half a second to import.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]
RESAMPLES = 1999
# Fewer clusters than this that differ at all, and the bootstrap has too little to resample from.
ENOUGH_DIFFERENT = 20


@lru_cache(maxsize=65536)
def tango_interval(gained: float, lost: float, n: float, alpha: float = 0.05) -> Interval:
    """Score interval for a difference of two paired proportions, (gained - lost) / n.

    `gained` pairs went from wrong to right and `lost` from right to wrong, of `n` pairs; fractions are allowed for
    averaged repeats and effective sample sizes. Tango, Statistics in Medicine 17 (1998) 891-908, eqs. 5-8.
    """
    z2 = float(special.ndtri(1 - alpha)) ** 2
    point = (gained - lost) / n

    def excess(delta: float) -> float:
        # Squared score statistic minus z²; q is the constrained maximum-likelihood estimate of P(right -> wrong).
        b = -gained - lost + (2 * n - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * q + delta * (1 - delta))
        gap = (gained - lost - n * delta) ** 2
        return float(gap / variance - z2) if variance > 0 else (np.inf if gap > 0 else -z2)

    def search(inside: float, outside: float) -> float:
        if excess(outside) <= 0:
            return outside
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if excess(middle) <= 0 else (inside, middle)
        return outside

    return search(point, -1.0), search(point, 1.0)


def wilson_interval(successes: float, n: float, alpha: float = 0.05) -> Interval:
    """Score interval for one proportion. Wilson, JASA 22 (1927) 209-212."""
    z = float(special.ndtri(1 - alpha))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Sample:
    """One number per prompt with its cluster: `values` float (n,), `clusters` integer codes 0…G-1 (n,)."""

    values: Array
    clusters: NDArray[np.intp]

    @classmethod
    def of(cls, values: Any, clusters: Any) -> "Sample":
        """From any sequence of numbers and any sequence of cluster names."""
        codes = np.unique(np.asarray(clusters), return_inverse=True)[1]
        return cls(np.asarray(values, dtype=float), codes.reshape(-1))

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def groups(self) -> int:
        return int(self.clusters.max()) + 1 if self.n else 0

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def sums(self) -> tuple[Array, Array]:
        """Sum of the values and number of prompts of each cluster, (G,) each."""
        return np.bincount(self.clusters, weights=self.values), np.bincount(self.clusters).astype(float)


def cluster_variance(sample: Sample) -> float:
    """Variance of the mean over prompts when whole clusters were sampled (linearised ratio estimator)."""
    totals, sizes = sample.sums()
    residual = totals - sample.mean * sizes
    groups = len(totals)
    return float(groups / (groups - 1) * (residual**2).sum() / sizes.sum() ** 2) if groups > 1 else float("inf")


def commonest(values: Array) -> float:
    """The value that comes most often; halfway between where several do; 0 where none comes twice."""
    kinds, counts = np.unique(values.round(9), return_counts=True)
    return float(kinds[counts == counts.max()].mean()) if counts.max() > 1 else 0.0


def odd_clusters(sample: Sample, usual: float) -> int:
    """How many clusters hold a value other than `usual`."""
    return len(np.unique(sample.clusters[np.abs(sample.values - usual) > 1e-9]))


def effective_n(sample: Sample) -> float:
    """How many independent prompts the clustered sample is worth, at most n.

    n over the design effect (Kish), which is estimated from the clusters that hold a value unlike the commonest one.
    A few such clusters say nothing about how alike their members are, so two imagined clusters whose members agree
    fully are mixed in; with none at all every cluster counts as one prompt. The factor (t/z)² pays for estimating
    the variance from few clusters.
    """
    totals, sizes = sample.sums()
    groups, n = len(totals), sample.n
    if groups == n:
        return float(n)
    worst = float((sizes**2).sum() / sizes.sum())
    informative = odd_clusters(sample, commonest(sample.values))
    plain = float(sample.values.var()) / (n - 1)
    design = max(1.0, cluster_variance(sample) / plain) if plain > 0 else worst
    blended = (informative * design + 2 * worst) / (informative + 2)
    penalty = (special.stdtrit(groups - 1, 0.95) / special.ndtri(0.95)) ** 2
    return float(n / (blended * penalty))


def bootstrap_t(sample: Sample, alpha: float, seed: int, resamples: int | None = None) -> Interval:
    """Cluster bootstrap-t interval for the mean over prompts (Efron & Tibshirani 1993, ch. 12; clusters resampled).

    Depends on neither the order nor the names of rows and clusters, and mirrors exactly when all signs flip. Ends can
    be infinite when the resamples are too degenerate to bound that side; the caller clips to the metric's range.
    """
    totals, sizes = sample.sums()
    order = np.lexsort((sizes, totals))
    mirrored = np.lexsort((sizes, -totals))
    pair, twin = (totals[order], sizes[order]), (-totals[mirrored], sizes[mirrored])
    flip = [*twin[0], *twin[1]] > [*pair[0], *pair[1]]
    s, m = twin if flip else pair
    resamples = resamples or RESAMPLES
    groups, theta = len(s), s.sum() / m.sum()
    error = float(np.sqrt(cluster_variance(sample)))
    if groups < 2 or error == 0:
        return sample.mean, sample.mean
    columns = np.stack([s, m, s * s, s * m, m * m], axis=1)
    drawn = resampled(groups, resamples, seed)
    # Small products: they stay in the cache, and the matrix library does not wake threads that wait for each other.
    chunk = max(1, 80_000 // groups)
    pulls = [drawn[start : start + chunk].astype(float) @ columns for start in range(0, resamples, chunk)]
    a, b, aa, ab, bb = np.concatenate(pulls).T
    means = a / b
    errors = np.sqrt(np.maximum(groups / (groups - 1) * (aa - 2 * means * ab + means**2 * bb), 0.0)) / b
    shift = means - theta
    # A resample of equal clusters has (up to the root of rounding, 1e-8) no spread: its t is as far out as can be, on
    # its own side.
    flat = errors <= 1e-6 * error
    t = np.select([np.abs(shift) <= 1e-12, shift > 0], [0.0, np.inf], -np.inf)
    np.divide(shift, errors, out=t, where=~flat)
    t.sort()
    rank = int(np.floor((resamples + 1) * alpha))
    if rank < 1:  # so small a risk that no resample is far enough out to bound it
        return float("-inf"), float("inf")
    low, high = theta - t[resamples - rank] * error, theta - t[rank - 1] * error
    return (float(-high), float(-low)) if flip else (float(low), float(high))


@lru_cache(maxsize=16)
def resampled(groups: int, resamples: int, seed: int) -> NDArray[np.uint8]:
    """How often each of `groups` clusters is drawn in each resample, (resamples, groups).

    Kept, because drawing takes most of a bootstrap's time and every metric over the same clusters needs the same draws.
    """
    rng = np.random.default_rng(seed)
    counts: NDArray[np.uint8] = np.empty((resamples, groups), dtype=np.uint8)
    for row in counts:
        row[:] = np.bincount(rng.integers(0, groups, groups), minlength=groups)
    return counts


def hull(*intervals: Interval) -> Interval:
    """The smallest interval that contains all of them: cautious where two methods disagree."""
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def difference_interval(
    differences: Sample, *, binary: bool, width: float, alpha: float = 0.05, seed: int = 0
) -> Interval:
    """Interval for the mean paired difference. `width` is the metric's range (largest minus smallest value).

    Binary, one prompt per cluster: Tango. Binary, clustered: the hull of Tango at the effective sample size and the
    cluster bootstrap-t. Scores: bootstrap-t. While few clusters differ at all, resampling would yield next to no
    width, so Tango stands alone: for scores it is then a bound (|d| >= d² when the range is one).
    """
    clustered = differences.groups < differences.n
    # Scores that all moved by the same are as much alike as scores that did not move.
    centre = 0.0 if binary else commonest(differences.values)
    moved = Sample(differences.values - centre, differences.clusters)
    few = odd_clusters(moved, 0.0) < ENOUGH_DIFFERENT
    parts: list[Interval] = []
    if binary or few:
        n = effective_n(moved)
        unit = max(width, float(np.abs(moved.values).max()))
        scale = n / moved.n / unit
        gained = float(np.maximum(moved.values, 0).sum()) * scale
        lost = float(np.maximum(-moved.values, 0).sum()) * scale
        low, high = tango_interval(gained, lost, n, alpha)
        parts.append((centre + low * unit, centre + high * unit))
    if not few and (clustered or not binary):
        parts.append(bootstrap_t(differences, alpha, seed))
    low, high = hull(*parts)
    return max(low, -width), min(high, width)


def mean_interval(values: Sample, *, binary: bool, bounds: Interval, alpha: float = 0.05, seed: int = 0) -> Interval:
    """Interval for one side's own mean within `bounds`: Wilson for yes/no, bootstrap-t for scores; as above."""
    low, high = bounds
    width = high - low
    few = odd_clusters(values, commonest(values.values)) < ENOUGH_DIFFERENT
    parts: list[Interval] = []
    if binary or few:
        n = effective_n(values)
        share = min(max((values.mean - low) / width, 0.0), 1.0)
        bottom, top = wilson_interval(share * n, n, alpha)
        parts.append((low + bottom * width, low + top * width))
    if not few and (values.groups < values.n or not binary):
        parts.append(bootstrap_t(values, alpha, seed))
    bottom, top = hull(*parts)
    return max(bottom, low), min(top, high)


def harm_p_value(differences: Sample) -> float:
    """One-sided p value for "worse": exact sign test on the clusters' sums, valid when both sides are exchangeable."""
    totals, _ = differences.sums()
    worse, better = int((totals < 0).sum()), int((totals > 0).sum())
    return float(special.bdtr(better, worse + better, 0.5))


def holm(p_values: list[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects. Scandinavian Journal of Statistics 6 (1979) 65-70."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected


def exact_interval(hits: int, n: int, alpha: float = 0.05) -> Interval:
    """Exact interval for a rate, `alpha` in each tail. Clopper & Pearson, Biometrika 26 (1934) 404-413."""
    low = float(special.betaincinv(hits, n - hits + 1, alpha)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, n - hits, 1 - alpha)) if hits < n else 1.0
    return low, high


def clean_needed(rate: float, alpha: float = 0.05) -> int:
    """How many observations without a hit show that the rate lies below `rate`: 59 for 5 %, 299 for 1 %."""
    return int(np.ceil(np.log(alpha) / np.log1p(-rate)))
