"""Do two crowds of points come from one distribution? The maximum mean discrepancy, with a permutation test.

Gretton et al., "A kernel two-sample test", JMLR 13 (2012) 723-773; the Gaussian kernel by random Fourier features
(Rahimi & Recht 2007), so that cost grows with the rows and not with their square. The features are drawn once from a
fixed seed: any features give a valid test, and the same rows always give the same answer.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float32]
FEATURES = 128
AT_ONCE = 64  # permutations
FEW = 1_000  # rows by which the kernel's width is chosen


@dataclass(frozen=True)
class Discrepancy:
    """`effect`: the distance of the two means, less what chance makes of it, over the spread within the rows.

    0 for one crowd; in units of the rows' own spread, so that it does not grow with their number.
    """

    p_value: float
    effect: float


def compare(one: Points, other: Points, permutations: int, seed: int = 0) -> Discrepancy:
    """Both (rows, numbers), at least two rows each."""
    rng = np.random.default_rng(seed)
    features = _features(np.concatenate([one, other]).astype(np.float32), rng)
    features -= features.mean(0)
    spread = float((features**2).sum(1).mean())
    first, rows = len(one), len(features)
    if spread == 0:
        return Discrepancy(1.0, 0.0)
    scale = 1 / first + 1 / (rows - first)
    chosen: Points = np.zeros(rows, np.float32)
    chosen[:first] = 1
    seen = _distance(features, chosen[:, None], scale)[0]
    by_chance = np.concatenate(
        [_distance(features, _shuffled(chosen, count, rng), scale) for count in _parts(permutations)]
    )
    # One more for what was seen: it is one of the arrangements, and no p value is 0.
    hits = int((by_chance >= seen * (1 - 1e-5)).sum())
    return Discrepancy((hits + 1) / (permutations + 1), max(0.0, float(seen - by_chance.mean()) / spread))


def _features(points: Points, rng: np.random.Generator) -> Points:
    few = points[:: max(1, len(points) // FEW)]
    apart = ((few[:, None] - few[None, : len(few) // 4 + 1]) ** 2).sum(2)
    width = float(np.sqrt(np.median(apart[apart > 0]))) if (apart > 0).any() else 1.0
    directions = rng.normal(0, 1 / width, (points.shape[1], FEATURES)).astype(np.float32)
    shifts = rng.uniform(0, 2 * np.pi, FEATURES).astype(np.float32)
    found: Points = np.cos(points @ directions + shifts)
    return found


def _distance(features: Points, chosen: Points, scale: float) -> NDArray[np.float64]:
    """Squared distance between the mean of the chosen rows and of the rest, for each column of `chosen`."""
    found: NDArray[np.float64] = (((features.T @ chosen) * scale) ** 2).sum(0, dtype=np.float64)
    return found


def _shuffled(chosen: Points, count: int, rng: np.random.Generator) -> Points:
    columns = np.repeat(chosen[None], count, 0)
    for column in columns:
        rng.shuffle(column)
    return columns.T


def _parts(total: int) -> list[int]:
    return [AT_ONCE] * (total // AT_ONCE) + ([total % AT_ONCE] if total % AT_ONCE else [])
