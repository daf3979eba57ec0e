"""Made-up candidates of known quality, each judged by every rule of `_rollout_rules` on the same requests."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from scripts.rollout import policy as policies
from scripts.rollout import simulated
from scripts.rollout.made_up import World
from tests.bench._rollout_rules import RULES, Traffic

RUNS, WHOLE_RUNS, CORES = 4_000, 1_000, 2
WEIGHTS = np.repeat([10, 25, 50], 10)  # percent of the candidate, minute by minute
SWING, PERIOD = 0.8, 30.0  # the worst time of day: errors between a fifth and nine fifths within half an hour


@dataclass(frozen=True)
class Case:
    title: str
    stable: float
    candidate: float
    rpm: int
    swing: float = 0.0


SAME = (
    Case("same, 20 rpm", 0.005, 0.005, 20),
    Case("same, 200 rpm", 0.005, 0.005, 200),
    Case("same, 2000 rpm", 0.005, 0.005, 2000),
    Case("same 1 %, time of day", 0.01, 0.01, 200, SWING),
    Case("1.25 times worse", 0.01, 0.0125, 200),
    Case("1.25 times worse, time of day", 0.01, 0.0125, 200, SWING),
)
WORSE = (
    Case("0.5 → 5 %, 200 rpm", 0.005, 0.05, 200),
    Case("0.5 → 20 %, 20 rpm", 0.005, 0.2, 20),
    Case("0.5 → 100 %, 20 rpm", 0.005, 1.0, 20),
    Case("1 → 3 %, 200 rpm", 0.01, 0.03, 200),
    Case("0.3 → 0.9 %, 2000 rpm", 0.003, 0.009, 2000),
)


@dataclass(frozen=True)
class Found:
    """Of `runs`, so many went back, at this median minute."""

    back: int
    runs: int
    minutes: float | None

    @property
    def share(self) -> float:
        return self.back / self.runs

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, Clopper and Pearson: what the number of runs leaves open."""
        low, high = binomtest(self.back, self.runs).proportion_ci(0.95, method="exact")
        return float(low), float(high)


def traffic(case: Case, runs: int, seed: int) -> Traffic:
    """Half an hour at fixed weights. Errors of both sides move with the time of day, as load moves them."""
    draw = np.random.default_rng(seed)
    tide = 1 + case.swing * np.sin(2 * np.pi * np.arange(len(WEIGHTS)) / PERIOD)
    here, there = (draw.poisson(case.rpm * share / 100, (runs, len(WEIGHTS))) for share in (WEIGHTS, 100 - WEIGHTS))
    bad, bad_there = (
        draw.binomial(n, np.minimum(1, p * tide)) for n, p in ((here, case.candidate), (there, case.stable))
    )
    return Traffic(here, bad, there, bad_there)


def judged(case: Case, runs: int = RUNS) -> dict[str, Found]:
    drawn = traffic(case, runs, seed=7)
    return {name: _found(rule(drawn)) for name, rule in RULES.items()}


def _found(minutes: np.ndarray) -> Found:
    back = minutes[np.isfinite(minutes)]
    return Found(len(back), len(minutes), float(np.median(back)) if len(back) else None)


def whole(case: Case, runs: int = WHOLE_RUNS) -> simulated.Rates:
    """The rollout itself, at its own pace: policy.yaml, `decide.step`, minutes known three minutes late."""
    world = World(
        requests_per_minute=case.rpm,
        stable_bad=case.stable,
        candidate_bad=case.candidate,
        bad_from_weight=1,  # its smoke test is good
        swing=case.swing,
        period_minutes=PERIOD,
        seed=7,
    )
    return simulated.often(world, policies.load(), runs)


def each(work: Callable[[Case], Any], cases: Iterable[Case]) -> list[Any]:
    with ProcessPoolExecutor(CORES) as pool:
        return list(pool.map(work, cases))
