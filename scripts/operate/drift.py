"""Is this week like the live model's first week? A table of signals, each a test with an effect, all judged together.

Pure. A signal counts when it is more than chance (Holm's correction over all signals that have evidence, so that all of
them together raise a false alarm in at most `alpha` of the weeks without drift) *and* large enough to matter: with
100,000 requests any difference is more than chance.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.stats import holm
from scripts import records
from scripts.operate import mmd
from scripts.operate.policy import DriftLimits

PROMPTS, ANSWERS = "prompts", "answers"
Column: TypeAlias = NDArray[np.float64]
NOTHING: Column = np.array([], np.float64)
EXPECTED = 5.0  # least expected count of a language; rarer ones are taken together


@dataclass(frozen=True)
class Rows:
    """Collected statistics in columns, in the order of time. NaN: that row does not say.

    `judge` is a column of its own length: the grades of a sample (judged.py).
    """

    numbers: Mapping[str, Column]
    language: NDArray[np.str_]
    sketch: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.language)


class Signal(records.Part):
    """One comparison of now with then, against the `least` effect that matters.

    `p_value` and `effect` are None where there is no evidence; `said` is why.
    """

    name: str
    about: str
    p_value: float | None
    effect: float | None
    least: float
    drifted: bool = False
    said: str = ""


Found = tuple[float, float]  # p value, effect
Test = Callable[[Rows, Rows, DriftLimits], Found | None]  # (then, now, limits); None: too few rows say


def _known(rows: Rows, name: str) -> Column:
    column = rows.numbers[name]
    known: Column = column[np.isfinite(column)]
    return known


def topics(then: Rows, now: Rows, limits: DriftLimits) -> Found:
    """The sketches' distance; effect in units of the spread within the rows."""
    found = mmd.compare(then.sketch, now.sketch, limits.permutations)
    return found.p_value, found.effect


def distribution(name: str) -> Test:
    """Kolmogorov-Smirnov; the effect is the largest distance of the two cumulative shares."""

    def test(then: Rows, now: Rows, limits: DriftLimits) -> Found | None:
        one, other = _known(then, name), _known(now, name)
        if min(len(one), len(other)) < limits.min_rows:
            return None
        found = stats.ks_2samp(one, other, method="asymp")  # exact is not offered for ties, and too small p values none
        return float(found.pvalue), float(found.statistic)

    return test


def ranks(name: str, *, worse: str) -> Test:
    """Mann-Whitney towards `worse`; the effect is how much likelier a row of now is worse than one of then."""

    def test(then: Rows, now: Rows, limits: DriftLimits) -> Found | None:
        one, other = _known(then, name), _known(now, name)
        if min(len(one), len(other)) < limits.min_rows:
            return None
        if np.ptp(np.concatenate([one, other])) == 0:
            return 1.0, 0.0
        found = stats.mannwhitneyu(other, one, alternative=worse, method="asymptotic")
        sign = 1 if worse == "greater" else -1
        return float(found.pvalue), sign * (2 * float(found.statistic) / (len(one) * len(other)) - 1)

    return test


def share(name: str, *, worse: str) -> Test:
    """Fisher's exact test of a yes-or-no towards `worse`; the effect is the change of the share."""

    def test(then: Rows, now: Rows, limits: DriftLimits) -> Found | None:
        one, other = _known(then, name), _known(now, name)
        if min(len(one), len(other)) < limits.min_rows:
            return None
        hits, all_hits, every = int(other.sum()), int(one.sum() + other.sum()), len(one) + len(other)
        drawn = (every, all_hits, len(other))
        p = stats.hypergeom.sf(hits - 1, *drawn) if worse == "greater" else stats.hypergeom.cdf(hits, *drawn)
        sign = 1 if worse == "greater" else -1
        return float(p), sign * float(other.mean() - one.mean())

    return test


def languages(then: Rows, now: Rows, _: DriftLimits) -> Found:
    """Chi-square over the languages, rare ones together; the effect is the share of requests that moved."""
    names, codes = np.unique(np.concatenate([then.language, now.language]), return_inverse=True)
    counts = np.stack(
        [np.bincount(codes[: len(then)], minlength=len(names)), np.bincount(codes[len(then) :], minlength=len(names))]
    ).astype(float)
    moved = 0.5 * float(np.abs(counts[0] / len(then) - counts[1] / len(now)).sum())
    expected = counts.sum(0) * min(len(then), len(now)) / counts.sum()
    rare = expected < EXPECTED
    table = np.column_stack([counts[:, ~rare], counts[:, rare].sum(1)]) if rare.any() else counts
    table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2:
        return 1.0, moved
    return float(stats.chi2_contingency(table, correction=False).pvalue), moved


# name, about, test. Its least effect is under the same name in retrain.yaml.
SIGNALS: tuple[tuple[str, str, Test], ...] = (
    ("topics", PROMPTS, topics),
    ("prompt_length", PROMPTS, distribution("prompt_characters")),
    ("language", PROMPTS, languages),
    ("unknown_tokens", PROMPTS, ranks("rare_share", worse="greater")),
    ("answer_length", ANSWERS, distribution("answer_tokens")),
    ("valid", ANSWERS, share("valid", worse="less")),
    ("refused", ANSWERS, share("refused", worse="greater")),
    ("cut_off", ANSWERS, share("cut_off", worse="greater")),
    ("judge_score", ANSWERS, ranks("judge", worse="less")),
)


def compare(then: Rows, now: Rows, limits: DriftLimits, unknown: Mapping[str, str] | None = None) -> tuple[Signal, ...]:
    """Every signal, with its word on drift. The caller has seen to it that both have `min_rows`.

    `unknown`: why nothing can be known of a signal, by its name.
    """
    found = [(name, about, test(then, now, limits)) for name, about, test in SIGNALS]
    known = [each for _, _, each in found if each is not None]
    rejected = iter(holm([p for p, _ in known], limits.alpha))
    signals = []
    for name, about, each in found:
        least = getattr(limits.least, name)
        if each is None:
            said = (unknown or {}).get(name) or f"fewer than {limits.min_rows} rows say"
            signals.append(Signal(name=name, about=about, p_value=None, effect=None, least=least, said=said))
            continue
        p, effect = each
        unlikely = next(rejected)
        drifted = unlikely and effect >= least
        chance = "more than chance, too small to matter" if unlikely else "no more than chance"
        said = "drifted" if drifted else chance
        signals.append(
            Signal(name=name, about=about, p_value=p, effect=effect, least=least, drifted=drifted, said=said)
        )
    return tuple(signals)
