"""Tests that may be looked at after every request, each an e-process: evidence that multiplies up.

If the hypothesis is true, the chance that its e-value ever reaches 1/α is at most α (Ville's inequality), however often
somebody looks and whenever they stop. Everything here is in natural logarithms; nothing here knows of a clock.

- Harm: is the candidate's odds of a bad request more than `worse_than` times the stable's? Given how many requests each
  side had and how many went badly in all, the candidate's share of the bad ones has Fisher's noncentral hypergeometric
  distribution. Conditioning so makes the test blind to the time of day and to the weights.
- Service level: is the candidate's share of bad requests below `limit`? Or above it?
- Probes: do the same prompts, put to both, come out worse by more than `margin`?
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]

POINTS = 16  # odds ratios between which the harm test divides its stake
NEAREST, FARTHEST = 1.3, 60.0  # of them: this much above the tolerated ratio, and total
BETS = np.linspace(0.05, 0.9, 12)  # shares of its wealth that the probe test stakes on one pair


def odds_ratios(worse_than: float) -> Vector:
    """The alternatives, geometrically spaced: a slight harm and a total failure are found alike."""
    return np.geomspace(worse_than * NEAREST, max(FARTHEST, worse_than * NEAREST * 2), POINTS)


def harm_increments(candidate: tuple[int, int], stable: tuple[int, int], worse_than: float) -> Vector:
    """What one batch of (bad, all) requests of each side adds to each alternative's log likelihood ratio.

    Zero where a side had no request or nothing went badly: there is nothing to compare. Raises ValueError for counts
    that cannot be. By monotone likelihood ratio it is an e-value for every odds ratio up to `worse_than`, not only it.
    """
    (bad, requests), (bad_there, requests_there) = candidate, stable
    if not (0 <= bad <= requests and 0 <= bad_there <= requests_there):
        raise ValueError(f"of {requests} requests {bad} cannot be bad (stable: {bad_there} of {requests_there})")
    total = bad + bad_there
    if not total or not requests or not requests_there:
        return np.zeros(POINTS)
    low, high = max(0, total - requests_there), min(requests, total)
    ways = _ways(low, high, requests, requests_there, total)
    counts = np.arange(low, high + 1)
    logs = _log_odds(worse_than)
    likelihood = logs * bad - _log_sum_exp(ways[None, :] + np.outer(logs, counts))
    return np.asarray(likelihood[1:] - likelihood[0], dtype=np.float64)


def mixture(log_values: Sequence[float] | Vector, shares: Sequence[float] | None = None) -> float:
    """The log e-value of these shares of the stake (None: equal ones) on each alternative."""
    values = np.asarray(log_values, dtype=np.float64)
    stakes = np.log(shares) if shares else -math.log(len(values))
    return float(_log_sum_exp((values + stakes)[None, :])[0])


def below_limit(bad: int, requests: int, limit: float) -> float:
    """Log e-value against "the share of bad requests is `limit` or more".

    A mixture over Beta(1, 2/limit), cut off at the limit, of likelihood ratios against the limit itself.
    """
    from scipy.special import betainc, betaln

    good, a, b = _counted(bad, requests, limit), 1.0, 2.0 / limit
    inside = float(betainc(a + bad, b + good, limit))
    if inside <= 0.0:  # too small for a number: so far above the limit is nothing below it
        return -math.inf
    mixed = betaln(a + bad, b + good) + math.log(inside) - betaln(a, b) - math.log(betainc(a, b, limit))
    return float(mixed - bad * math.log(limit) - good * math.log1p(-limit))


def above_limit(bad: int, requests: int, limit: float) -> float:
    """Log e-value against "the share of bad requests is at most `limit`": a mixture over all shares above it."""
    from scipy.special import betainc, betaln

    good = _counted(bad, requests, limit)
    inside = float(betainc(1.0 + good, 1.0 + bad, 1 - limit))
    if inside <= 0.0:
        return -math.inf
    mixed = betaln(1.0 + bad, 1.0 + good) + math.log(inside) - math.log1p(-limit)
    return float(mixed - bad * math.log(limit) - good * math.log1p(-limit))


def _counted(bad: int, requests: int, limit: float) -> int:
    if not 0 <= bad <= requests or not 0 < limit < 1:
        raise ValueError(f"{bad} bad of {requests} requests, limit {limit}")
    return requests - bad


def requests_needed(limit: float, alpha: float) -> int:
    """Requests, all of them good, after which `below_limit` is shown."""
    low, high = 0, 1
    while below_limit(0, high, limit) < -math.log(alpha):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if below_limit(0, middle, limit) >= -math.log(alpha) else (middle, high)
    return high


def probe_increments(drop: float, margin: float) -> Vector:
    """What one pair adds to each bet's log wealth. `drop`: stable's score minus the candidate's, from -1 to 1.

    A fair game, or worse, for whoever bets on harm while the mean drop is at most `margin`.
    """
    if not -1 <= drop <= 1:  # NaN fails too
        raise ValueError(f"the drop of a pair is from -1 to 1, not {drop}")
    return np.asarray(np.log1p(BETS / (1 + margin) * (drop - margin)), dtype=np.float64)


@lru_cache(maxsize=4096)
def _ways(low: int, high: int, requests: int, requests_there: int, total: int) -> Vector:
    return np.array([_choose(requests, k) + _choose(requests_there, total - k) for k in range(low, high + 1)])


@lru_cache(maxsize=16)
def _log_odds(worse_than: float) -> Vector:
    return np.asarray(np.log(np.concatenate([[worse_than], odds_ratios(worse_than)])), dtype=np.float64)


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _log_sum_exp(rows: Vector) -> Vector:
    top = rows.max(axis=1)
    return np.asarray(top + np.log(np.exp(rows - top[:, None]).sum(axis=1)), dtype=np.float64)
