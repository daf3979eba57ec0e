"""One metric's evidence: the paired difference against the margin, the candidate's own level against the floor."""

import math
from collections.abc import Callable

from eval import stats
from eval.policy import MetricPolicy, Policy
from eval.tables import Paired, View
from eval.verdict import MetricResult, Outcome, worst_outcome

MOST_GROWTH = 100.0
EPSILON = 1e-12  # a drop of exactly the limit is not larger than it, whatever binary fractions make of it


def judge_metric(metric: MetricPolicy, data: Paired, policy: Policy, alpha: float) -> MetricResult:
    """One metric: PASS if the lower bound is above -margin and the floor is met, FAIL if harm that matters is shown.

    Rows lost to infrastructure count against the candidate in the lower bound and are left out of the upper bound,
    so that they can neither help a candidate to pass nor make it fail.
    """
    low, high = metric.range
    binary, seed = metric.kind == "binary", policy.seed
    seen = data.sample(data.seen_candidate, data.both)
    result: dict[str, object] = {
        **metric.model_dump(include={"name", "kind", "primary", "direction", "margin", "floor"}),
        "n": seen.n,
        "clusters": seen.groups,
        **dict.fromkeys(("baseline", "candidate", "difference", "interval", "candidate_interval", "more_prompts")),
    }
    if seen.n < policy.min_rows or seen.groups < policy.min_clusters:
        reason = (
            f"{metric.name} has {seen.n} prompts in {seen.groups} clusters, fewer than the "
            f"{policy.min_rows} and {policy.min_clusters} that a decision needs"
        )
        more = max(policy.min_rows - seen.n, policy.min_clusters - seen.groups)
        return MetricResult.model_validate(
            {**result, "more_prompts": more, "outcome": "inconclusive", "reason": reason}
        )

    def own(sample: stats.Sample) -> stats.Interval:
        return stats.mean_interval(sample, binary=binary, bounds=(low, high), alpha=alpha, seed=seed)

    def against(sample: stats.Sample, level: float = alpha) -> stats.Interval:
        return stats.difference_interval(sample, binary=binary, width=high - low, alpha=level, seed=seed)

    view = View(metric)
    mine = _cautious(own, seen, data.sample(data.harsh_candidate))
    checks: list[tuple[Outcome, str]] = []
    growth: list[float] = []  # by what factor the prompts must grow until a check is decided as the means stand
    result |= {"candidate": view.value(seen.mean), "candidate_interval": view.values(mine)}
    if data.seen_baseline is not None and data.harsh_baseline is not None:
        theirs = data.sample(data.seen_baseline, data.both)
        seen_gain = data.sample(data.seen_candidate - data.seen_baseline, data.both)
        gain = _cautious(against, seen_gain, data.sample(data.harsh_candidate - data.harsh_baseline))
        result |= {
            "baseline": view.value(theirs.mean),
            "difference": view.difference(seen_gain.mean),
            "interval": view.differences(gain),
        }
        story = f"{metric.name} went from {view.value(theirs.mean):.3f} to {view.value(seen.mean):.3f}"
        # To pass, all primary metrics must; to fail, one is enough, so that they share alpha (Bonferroni).
        several = sum(each.primary for each in policy.metrics) > 1 and gain[1] < 0
        harm = against(seen_gain, alpha / sum(each.primary for each in policy.metrics))[1] if several else gain[1]
        checks.append(_compare(metric, story, seen_gain.mean, gain, harm))
        growth.append(_growth(seen_gain.mean, gain, -metric.margin, -metric.min_drop))
    if metric.floor is not None:
        floor = view.value(metric.floor)
        checks.append(_reach(metric, floor, mine))
        growth.append(_growth(seen.mean, mine, floor, floor))
    if not checks:  # a first release asks nothing of a metric without a floor, so it may not block (or pass) either
        nothing = f"{metric.name} has no floor to meet and no baseline to meet it"
        return MetricResult.model_validate({**result, "primary": False, "outcome": "inconclusive", "reason": nothing})
    outcome = worst_outcome(outcome for outcome, _ in checks)
    reason = "; ".join(text for check, text in checks if check == outcome)
    factor = max(growth)
    if outcome == "inconclusive" and math.isfinite(factor):
        more = max(1, math.ceil(seen.n * (factor - 1)))
        result["more_prompts"] = more
        reason += f"; about {more} more prompts like these would decide it"
    return MetricResult.model_validate({**result, "outcome": outcome, "reason": reason})


def _growth(mean: float, interval: stats.Interval, above: float, below: float) -> float:
    """By what factor the prompts must grow until the interval lies above `above` or, for harm, ends below `below`.

    Taking the mean for the truth and widths to shrink with the square root of the number. At the limit itself no number
    decides; so a factor beyond a hundred is given as infinite.
    """
    low, high = interval
    factor = math.inf
    if mean > above:
        factor = ((mean - low) / (mean - above)) ** 2
    elif mean < below:
        factor = ((high - mean) / (below - mean)) ** 2
    return max(factor, 1.0) if factor <= MOST_GROWTH else math.inf


def _cautious(
    interval: Callable[[stats.Sample], stats.Interval], seen: stats.Sample, harsh: stats.Sample
) -> stats.Interval:
    """The lower bound with lost rows held against the candidate, the upper bound without them."""
    whole = interval(seen)
    lossless = seen.n == harsh.n and bool((seen.values == harsh.values).all())
    return whole if lossless else (interval(harsh)[0], whole[1])


def _compare(
    metric: MetricPolicy, story: str, gain: float, interval: stats.Interval, harm: float
) -> tuple[Outcome, str]:
    """`gain`, `interval` and `harm`, the upper end that must lie below 0, with higher being better."""
    low, high = interval
    signed = "{:+.3f} ({:+.3f} to {:+.3f})".format(*_signed(metric, gain, low, high))
    what = f"{story}, {signed}"
    if low > -metric.margin:
        return "pass", f"{what}, not worse by the margin of {metric.margin:g}"
    if harm < 0 and -gain > metric.min_drop + EPSILON:
        return "fail", f"{what}, worse and by more than {metric.min_drop:g}"
    return "inconclusive", f"{what}, which neither rules out a loss of {metric.margin:g} nor shows one"


def _signed(metric: MetricPolicy, gain: float, low: float, high: float) -> tuple[float, float, float]:
    view = View(metric)
    return view.difference(gain), *view.differences((low, high))


def _reach(metric: MetricPolicy, floor: float, interval: stats.Interval) -> tuple[Outcome, str]:
    """`floor` and `interval` with higher being better."""
    low, high = View(metric).values(interval)
    what = f"{metric.name} lies between {low:.3f} and {high:.3f}"
    if interval[0] >= floor - EPSILON:
        return "pass", f"{what}, and the floor is {metric.floor:g}"
    if interval[1] < floor:
        return "fail", f"{what}, which misses the floor of {metric.floor:g}"
    return "inconclusive", f"{what}, which does not settle the floor of {metric.floor:g}"
