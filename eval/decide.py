"""The gate as a function of two score tables and a policy: no files, no clock but a time stamp, no chance but a seed.

Order of judgement: validity; every primary metric against the baseline and its floor; guards; harm on slices.
Passing needs all of them, so the primary claims need no correction for multiplicity (intersection-union).
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from eval import stats
from eval.guards import judge_latency, judge_slices
from eval.policy import MetricPolicy, Policy
from eval.scores import prompts_digest, scores_digest
from eval.tables import Paired, Rows, View, count, pair, why_invalid
from eval.verdict import (
    Counts,
    GuardResult,
    MetricResult,
    Outcome,
    SliceResult,
    Verdict,
    invalid_verdict,
    timestamp,
    worst_outcome,
)

EPSILON = 1e-12  # a drop of exactly the limit is not larger than it, whatever binary fractions make of it


def decide(
    candidate: Rows,
    baseline: Rows | None,
    policy: Policy,
    *,
    candidate_model: str | None = None,
    baseline_model: str | None = None,
    aa: bool = False,
    now: datetime | None = None,
) -> Verdict:
    """Judge `candidate` against `baseline` (None: a first release, floors only).

    `candidate_model` and `baseline_model` are model digests; without them the verdict is not bound to what it judged.
    `aa` allows the same model on both sides, to check the gate itself. `now` only fills `created_at`.
    """
    bound = bool(candidate_model) and (baseline is None or bool(baseline_model))
    problem = why_invalid(candidate, baseline, policy)
    if not problem and bound and candidate_model == baseline_model and not aa:
        problem = "Candidate and baseline are the same model, so there is nothing to compare; use --aa to do it anyway."
    counts = Counts(candidate=count(candidate), baseline=None if baseline is None else count(baseline))
    digests: dict[str, Any] = {
        "policy_digest": policy.digest(),
        "prompts_digest": prompts_digest(candidate),
        "candidate_scores_digest": scores_digest(candidate),
        "baseline_scores_digest": None if baseline is None else scores_digest(baseline),
        "candidate_model": candidate_model,
        "baseline_model": baseline_model,
    }
    if problem:
        return invalid_verdict(problem, bound=bound, alpha=policy.alpha, counts=counts, now=now, **digests)
    pairs = {metric.name: pair(metric, candidate, baseline) for metric in policy.metrics}
    metrics = [judge_metric(metric, pairs[metric.name], policy) for metric in policy.metrics]
    slices = judge_slices(policy, pairs, candidate) if baseline is not None else []
    guards = [judge_latency(candidate, baseline, policy)] if baseline is not None and policy.latency else []
    outcome, reason = conclude(metrics, guards, slices)
    return Verdict(
        outcome=outcome,
        bound=bound,
        reason=reason,
        metrics=metrics,
        slices=slices,
        guards=guards,
        latency_ratio=next((guard.value for guard in guards), None),
        counts=counts,
        alpha=policy.alpha,
        created_at=timestamp(now),
        **digests,
    ).sealed()


def judge_metric(metric: MetricPolicy, data: Paired, policy: Policy) -> MetricResult:
    """One metric: PASS if the lower bound is above -margin and the floor is met, FAIL if harm that matters is shown.

    Rows lost to infrastructure count against the candidate in the lower bound and are left out of the upper bound,
    so that they can neither help a candidate to pass nor make it fail.
    """
    low, high = metric.range
    binary, alpha, seed = metric.kind == "binary", policy.alpha, policy.seed
    seen = data.sample(data.seen_candidate, data.both)
    result: dict[str, object] = {
        **metric.model_dump(include={"name", "kind", "primary", "direction", "margin", "floor"}),
        "n": seen.n,
        "clusters": seen.groups,
        **dict.fromkeys(("baseline", "candidate", "difference", "interval", "candidate_interval")),
    }
    if seen.n < policy.min_rows or seen.groups < policy.min_clusters:
        reason = (
            f"{metric.name} has {seen.n} prompts in {seen.groups} clusters, fewer than the "
            f"{policy.min_rows} and {policy.min_clusters} that a decision needs"
        )
        return MetricResult.model_validate({**result, "outcome": "inconclusive", "reason": reason})

    def own(sample: stats.Sample) -> stats.Interval:
        return stats.mean_interval(sample, binary=binary, bounds=(low, high), alpha=alpha, seed=seed)

    def against(sample: stats.Sample) -> stats.Interval:
        return stats.difference_interval(sample, binary=binary, width=high - low, alpha=alpha, seed=seed)

    view = View(metric)
    mine = _cautious(own, seen, data.sample(data.harsh_candidate))
    checks: list[tuple[Outcome, str]] = []
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
        checks.append(_compare(metric, story, seen_gain.mean, gain))
    if metric.floor is not None:
        checks.append(_reach(metric, view.value(metric.floor), mine))
    if not checks:  # a first release asks nothing of a metric without a floor, so it may not block (or pass) either
        nothing = f"{metric.name} has no floor to meet and no baseline to meet it"
        return MetricResult.model_validate({**result, "primary": False, "outcome": "inconclusive", "reason": nothing})
    outcome = worst_outcome(outcome for outcome, _ in checks)
    reason = "; ".join(text for check, text in checks if check == outcome)
    return MetricResult.model_validate({**result, "outcome": outcome, "reason": reason})


def _cautious(
    interval: Callable[[stats.Sample], stats.Interval], seen: stats.Sample, harsh: stats.Sample
) -> stats.Interval:
    """The lower bound with lost rows held against the candidate, the upper bound without them."""
    whole = interval(seen)
    lossless = seen.n == harsh.n and bool((seen.values == harsh.values).all())
    return whole if lossless else (interval(harsh)[0], whole[1])


def _compare(metric: MetricPolicy, story: str, gain: float, interval: stats.Interval) -> tuple[Outcome, str]:
    """`gain` and `interval` with higher being better."""
    low, high = interval
    signed = "{:+.3f} ({:+.3f} to {:+.3f})".format(*_signed(metric, gain, low, high))
    what = f"{story}, {signed}"
    if low > -metric.margin:
        return "pass", f"{what}, not worse by the margin of {metric.margin:g}"
    if high < 0 and -gain > metric.min_drop + EPSILON:
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


def conclude(metrics: list[MetricResult], guards: list[GuardResult], slices: list[SliceResult]) -> tuple[Outcome, str]:
    """The verdict and its reason, one sentence about whatever weighs most."""
    judged: list[tuple[Outcome, str]] = [(metric.outcome, metric.reason) for metric in metrics if metric.primary]
    judged += [(guard.outcome, guard.reason) for guard in guards]
    judged += [
        (
            "fail",
            f"{slice_.metric} changed by {slice_.difference:+.3f} where {slice_.tag} is {slice_.value}, harm that "
            "chance does not explain",
        )
        for slice_ in slices
        if slice_.outcome == "harm"
    ]
    outcome = worst_outcome(outcome for outcome, _ in judged)
    text = next(reason for judged_outcome, reason in judged if judged_outcome == outcome)
    return outcome, text + "."
