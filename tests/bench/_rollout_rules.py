"""Ways to tell from half an hour of requests that a candidate must go back: ours, and what is common.

Each is told the same minutes and says in which of them it would have gone back, for each run; infinity for never.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from scripts.rollout import policy as policies
from scripts.rollout.evidence import Count, Evidence, harmful
from scripts.rollout.made_up import batch, sides
from scripts.rollout.policy import Policy

Minutes = NDArray[np.float64]
START, MINUTE = datetime(2026, 1, 5, tzinfo=UTC), timedelta(minutes=1)
LEAST_GOOD = 0.99  # the share of good requests below which a threshold rule calls a window failed
ENOUGH = 30  # requests of the candidate, from which on a z-test is believed


@dataclass(frozen=True)
class Traffic:
    """Requests, and bad ones among them, of each side: a row per run, a column per minute."""

    requests: NDArray[np.int64]
    bad: NDArray[np.int64]
    requests_there: NDArray[np.int64]
    bad_there: NDArray[np.int64]


def ours(traffic: Traffic, policy: Policy) -> Minutes:
    """The evidence and the harm test of scripts/rollout, minute by minute."""
    columns = (traffic.bad, traffic.requests, traffic.bad_there, traffic.requests_there)
    return np.array(
        [_ours(np.stack([each[run] for each in columns], axis=1).tolist(), policy) for run in range(len(traffic.bad))]
    )


def _ours(minutes: list[list[int]], policy: Policy) -> float:
    known = Evidence()
    for minute, (bad, requests, bad_there, requests_there) in enumerate(minutes):
        counts = (
            Count.model_construct(requests=requests, bad=bad),
            Count.model_construct(requests=requests_there, bad=bad_there),
        )
        latest = batch(START + minute * MINUTE, sides(*counts))
        known = known.plus(latest, policy)
        if harmful(known, latest, policy):
            return minute + 1.0
    return np.inf


def threshold(window: int, limit: int) -> Callable[[Traffic], Minutes]:
    """Back at the first window, of so many minutes, that is the failed one number `limit`."""

    def rule(traffic: Traffic) -> Minutes:
        bad, requests = _windows(traffic.bad, window), _windows(traffic.requests, window)
        failed = (requests - bad) < LEAST_GOOD * requests  # a window without requests is no failed one
        return _first(failed.cumsum(axis=1) >= limit, window)

    return rule


def rank_test_at_the_end(traffic: Traffic) -> Minutes:
    """Mann-Whitney on error shares of five minutes, one-sided 1 % (a two-sided interval of 98 %), asked once."""
    shares = _shares(traffic.bad, traffic.requests), _shares(traffic.bad_there, traffic.requests_there)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = stats.mannwhitneyu(*shares, alternative="greater", axis=1).pvalue
    return np.where(np.nan_to_num(p, nan=1.0) < 0.01, float(traffic.bad.shape[1]), np.inf)


def z_test_each_minute(traffic: Traffic) -> Minutes:
    """Two proportions since the beginning, one-sided 5 %, looked at every minute as if it were the only time."""
    bad, n, bad_there, m = (
        each.cumsum(axis=1) for each in (traffic.bad, traffic.requests, traffic.bad_there, traffic.requests_there)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = (bad + bad_there) / (n + m)
        z = (bad / n - bad_there / m) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return _first((n > ENOUGH) & (np.nan_to_num(z, nan=0.0) > stats.norm.ppf(0.95)), 1)


def _windows(counts: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    return counts.reshape(len(counts), -1, window).sum(axis=2)


def _shares(bad: NDArray[np.int64], requests: NDArray[np.int64]) -> NDArray[np.float64]:
    return _windows(bad, 5) / np.maximum(_windows(requests, 5), 1)


def _first(struck: NDArray[np.bool_], window: int) -> Minutes:
    return np.where(struck.any(axis=1), (struck.argmax(axis=1) + 1.0) * window, np.inf)


AS_IT_IS = policies.load()
ALONE = AS_IT_IS.model_copy(update={"harm": AS_IT_IS.harm.model_copy(update={"signals": {"error": 1.0}})})
RULES: dict[str, Callable[[Traffic], Minutes]] = {
    "**this rollout**": lambda traffic: ours(traffic, AS_IT_IS),
    "**this rollout**, `signals: {error: 1}`": lambda traffic: ours(traffic, ALONE),
    "Argo-like: 1 minute, failureLimit 0": threshold(1, 1),
    "Argo-like: 1 minute, failureLimit 3": threshold(1, 4),
    "Argo-like: 5 minutes, failureLimit 3": threshold(5, 4),
    "Flagger-like: 1 minute, threshold 5": threshold(1, 5),
    "Kayenta-like: rank test at the end": rank_test_at_the_end,
    "z-test, looked at each minute": z_test_each_minute,
}
