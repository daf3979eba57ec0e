"""Simulated releases with known truth, each judged by every rule of `_gate_rules`: how often is each one wrong?"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eval.looks import first_alpha, second_alpha
from eval.stats import Sample, difference_interval, tango_interval
from tests.bench._gate_rules import MARGIN, MIN_DROP, RULES, Answer, Counts, drop, ours
from tests.eval.counted import rates

SIZES = (30, 50, 100, 200, 400, 800)
BASELINE, DISCORDANT = 0.80, 0.15  # share of right answers; share of prompts on which the two models differ
PARAPHRASES, ALIKE = 4, 0.75  # prompts of one origin, and the share of origins whose prompts fare alike
RUNS, CLUSTERED_RUNS, TRIES = 20_000, 3_000, 5
# What is asked of a rule: name, true change of the candidate, and whether it is the passes or the failures we count.
QUESTIONS = (
    ("fails an unchanged model", 0.0, "fail"),
    ("passes a model that is 5 points worse", -0.05, "pass"),
    ("passes an unchanged model", 0.0, "pass"),
    ("passes a model that is 3 points better", 0.03, "pass"),
)
Shares = dict[str, dict[int, tuple[float, float]]]  # rule -> prompts -> shares that pass and fail


def cells(delta: float) -> list[float]:
    """Shares of prompts that both, only the baseline, only the candidate, and neither answer rightly."""
    lost, gained = (DISCORDANT - delta) / 2, (DISCORDANT + delta) / 2
    return [BASELINE - lost, lost, gained, 1 - BASELINE - gained]


def independent(delta: float) -> Shares:
    """Every prompt its own cluster. Ours is counted out exactly; the others are simulated on the same releases."""
    shares: Shares = {name: {} for name in RULES}
    for n in SIZES:
        counts = np.random.default_rng(n).multinomial(n, cells(delta), size=RUNS)
        for name, rule in RULES.items():
            answers = rates(n, DISCORDANT, delta) if rule is ours else _shares(rule(counts))
            shares[name][n] = answers
    return shares


def clustered(delta: float, sizes: tuple[int, ...] = (200, 800)) -> Shares:
    """Paraphrases: groups of prompts that mostly stand or fall together. Only our rule is told of the groups."""
    shares: Shares = {name: {} for name in RULES}
    for n in sizes:
        groups = n // PARAPHRASES
        names = np.repeat(np.arange(groups), PARAPHRASES)
        rng = np.random.default_rng(n + 1)
        states = rng.choice(4, p=cells(delta), size=(CLUSTERED_RUNS, groups, PARAPHRASES))
        alike = rng.random((CLUSTERED_RUNS, groups, 1)) < ALIKE
        states = np.where(alike, states[..., :1], states).reshape(CLUSTERED_RUNS, n)
        counts = np.stack([(states == state).sum(axis=1) for state in range(4)], axis=1)
        for name, rule in RULES.items():
            answers = _with_clusters(states, names) if rule is ours else rule(counts)
            shares[name][n] = _shares(answers)
        shares.setdefault("this gate, not told of the clusters", {})[n] = _shares(ours(counts))
    return shares


def _with_clusters(states: NDArray[np.int64], names: NDArray[np.int64]) -> tuple[Answer, Answer]:
    change = np.array([0.0, -1.0, 1.0, 0.0])[states]
    ends = np.array([difference_interval(Sample(each, names), binary=True, width=1) for each in change])
    passed = ends[:, 0] > -MARGIN
    return passed, ~passed & (ends[:, 1] < 0) & (-change.mean(axis=1) > MIN_DROP + 1e-12)


def _shares(answers: tuple[Answer, Answer]) -> tuple[float, float]:
    return float(answers[0].mean()), float(answers[1].mean())


def until_green(n: int = 200, delta: float = -MARGIN) -> Iterator[tuple[str, float, float]]:
    """(rule, share passed at the first try, share passed after five) of a candidate that is worse by the margin."""
    rng = np.random.default_rng(7)
    tries = [rng.multinomial(n, cells(delta), size=RUNS) for _ in range(TRIES)]
    for name, rule in (("drop of at most 2 points", drop), ("this gate's rule, were each try a new start", ours)):
        passed = np.array([rule(counts)[0] for counts in tries])
        yield name, float(passed[0].mean()), float(passed.any(axis=0).mean())
    once = rates(n, DISCORDANT, delta)[0]
    yield "**this gate**: the same prompts get the verdict they got", once, once
    yield "**this gate** with `looks: 2`: a second look at twice as many prompts", *_two_looks(tries)


def _two_looks(tries: list[Counts]) -> tuple[float, float]:
    n = int(tries[0][0].sum())
    first = _lows(tries[0], first_alpha(0.05, 2)) > -MARGIN
    second = _lows(tries[0] + tries[1], second_alpha(0.05, n, 2 * n, n)) > -MARGIN
    return float(first.mean()), float((first | second).mean())


def _lows(counts: Counts, alpha: float) -> NDArray[np.float64]:
    return np.array([tango_interval(int(c[2]), int(c[1]), int(c.sum()), alpha)[0] for c in counts])
