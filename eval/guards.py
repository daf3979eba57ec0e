"""What a candidate may not do however good its average is: harm one slice of the traffic, or become slow."""

import numpy as np

from eval import stats
from eval.policy import Policy
from eval.tables import Paired, Rows, View
from eval.verdict import GuardResult, Outcome, SliceResult

EPSILON = 1e-12  # a drop of exactly the limit is not larger than it, whatever binary fractions make of it


def judge_slices(policy: Policy, pairs: dict[str, Paired], candidate: Rows) -> list[SliceResult]:
    """One-sided harm tests on every value of the policy's tags and every primary metric, Holm over all of them."""
    rules = policy.slices
    if rules is None:
        return []
    tags_of = {row.prompt_id: row.slices for row in candidate}
    tags = [tags_of[prompt] for prompt in sorted(tags_of)]
    drafts: list[SliceResult] = []
    drops: list[float] = []
    for metric in policy.metrics:
        data = pairs[metric.name]
        if not metric.primary or data.seen_baseline is None:
            continue
        view = View(metric)
        for tag in rules.tags:
            for value in sorted({slices[tag] for slices in tags if tag in slices}):
                where = np.array([slices.get(tag) == value for slices in tags]) & data.both
                if not where.any():
                    continue
                gain = data.sample(data.seen_candidate - data.seen_baseline, where)
                powered = gain.groups >= rules.min_clusters
                interval = stats.difference_interval(
                    gain,
                    binary=metric.kind == "binary",
                    width=metric.range[1] - metric.range[0],
                    alpha=policy.alpha,
                    seed=policy.seed,
                )
                drops.append(-gain.mean)
                drafts.append(
                    SliceResult(
                        metric=metric.name,
                        tag=tag,
                        value=value,
                        n=gain.n,
                        clusters=gain.groups,
                        baseline=view.value(float(data.seen_baseline[where].mean())),
                        candidate=view.value(float(data.seen_candidate[where].mean())),
                        difference=view.difference(gain.mean),
                        interval=view.differences(interval) if powered else None,
                        p_value=stats.harm_p_value(gain) if powered else None,
                        outcome=("ok" if interval[0] > -metric.margin else "undecided") if powered else "not powered",
                    )
                )
    tested = [i for i, draft in enumerate(drafts) if draft.p_value is not None]
    rejected = stats.holm([drafts[i].p_value or 0.0 for i in tested], rules.alpha)
    for i, reject in zip(tested, rejected, strict=True):
        if reject and drops[i] > rules.min_drop + EPSILON:
            drafts[i] = drafts[i].model_copy(update={"outcome": "harm"})
    return drafts


def judge_latency(candidate: Rows, baseline: Rows, policy: Policy) -> GuardResult:
    """The median over clusters of log(candidate's latency / baseline's), on prompts that both sides answered."""
    limit = policy.latency.max_ratio if policy.latency else float("inf")
    sides = []
    for rows in (candidate, baseline):
        times: dict[str, list[float]] = {}
        for row in rows:
            if row.status == "ok" and row.latency_ms is not None:
                times.setdefault(row.prompt_id, []).append(max(row.latency_ms, 1e-3))
        sides.append({prompt: float(np.mean(np.log(values))) for prompt, values in times.items()})
    clusters = {row.prompt_id: row.cluster_id for row in candidate}
    ratios: dict[str, list[float]] = {}
    for prompt in sorted(sides[0].keys() & sides[1].keys()):
        ratios.setdefault(clusters[prompt], []).append(sides[0][prompt] - sides[1][prompt])
    logs = np.array([float(np.mean(values)) for values in ratios.values()])
    if len(logs) < policy.min_clusters:
        text = f"Latency can be compared on {len(logs)} clusters, fewer than {policy.min_clusters}"
        return GuardResult(name="latency", value=None, interval=None, limit=limit, outcome="inconclusive", reason=text)
    value = float(np.exp(np.median(logs)))
    low, high = (float(end) for end in np.exp(stats.median_interval(logs, policy.alpha)))
    outcome: Outcome = "pass" if high <= limit else "fail" if low > limit else "inconclusive"
    ends = {
        "pass": f"below the limit of {limit:g}",
        "fail": f"above the limit of {limit:g}",
        "inconclusive": f"which does not settle the limit of {limit:g}",
    }
    return GuardResult(
        name="latency",
        value=value,
        interval=(low, high) if np.isfinite(high) else None,
        limit=limit,
        outcome=outcome,
        reason=f"Latency is {value:.2f} times the baseline's ({low:.2f} to {high:.2f}), {ends[outcome]}",
    )
