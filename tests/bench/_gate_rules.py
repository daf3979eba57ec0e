"""Ways to decide a release from yes/no answers of two models to the same prompts: ours, and what is common."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tests.eval.counted import MARGIN, MIN_DROP, borders

# (runs, 4) prompts that both answer rightly, only the baseline, only the candidate, neither.
Counts = NDArray[np.int64]
Answer = NDArray[np.bool_]
# Which of the runs pass, and which fail; a rule without a third answer fails what it does not pass.
Rule = Callable[[Counts], tuple[Answer, Answer]]

EPSILON = 1e-12


def ours(counts: Counts) -> tuple[Answer, Answer]:
    """Tango's interval, one prompt per cluster; see clustered() of _gate_study for paraphrases."""
    still, from_on = borders(int(counts[0].sum()))
    gained, lost = counts[:, 2], counts[:, 1]
    return lost <= still[gained], lost >= from_on[gained]


def drop(counts: Counts) -> tuple[Answer, Answer]:
    passed = _change(counts) >= -0.02 - EPSILON
    return passed, ~passed


def threshold(counts: Counts) -> tuple[Answer, Answer]:
    passed = (counts[:, 0] + counts[:, 2]) / counts.sum(axis=1) >= 0.8 - EPSILON
    return passed, ~passed


def unpaired(counts: Counts) -> tuple[Answer, Answer]:
    """Our question, asked as if the two models had answered different prompts."""
    n = counts.sum(axis=1)
    mine, theirs = (counts[:, 0] + counts[:, 2]) / n, (counts[:, 0] + counts[:, 1]) / n
    return _three(counts, np.sqrt((mine * (1 - mine) + theirs * (1 - theirs)) / n))


def wald(counts: Counts) -> tuple[Answer, Answer]:
    """Our question with the interval of the textbooks (normal theory)."""
    n = counts.sum(axis=1)
    changed = (counts[:, 1] + counts[:, 2]) / n
    return _three(counts, np.sqrt((changed - _change(counts) ** 2) / n))


def mcnemar(counts: Counts) -> tuple[Answer, Answer]:
    """Fail when the candidate is significantly worse (exact test, two-sided 5 %), else pass."""
    gained, lost = counts[:, 2], counts[:, 1]
    p = np.minimum(1.0, 2 * stats.binom.cdf(gained, gained + lost, 0.5))
    failed = (p < 0.05) & (lost > gained)
    return ~failed, failed


def _change(counts: Counts) -> NDArray[np.float64]:
    return np.asarray((counts[:, 2] - counts[:, 1]) / counts.sum(axis=1))


def _three(counts: Counts, error: NDArray[np.float64]) -> tuple[Answer, Answer]:
    change, half = _change(counts), stats.norm.ppf(0.95) * error
    passed = change - half > -MARGIN
    return passed, ~passed & (change + half < 0) & (-change > MIN_DROP + EPSILON)


RULES: dict[str, Rule] = {
    "**this gate**": ours,
    "drop of at most 2 points": drop,
    "at least 80 % right": threshold,
    "unpaired z, same margin": unpaired,
    "paired normal interval, same margin": wald,
    "McNemar: not significantly worse": mcnemar,
}
