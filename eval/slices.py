"""Harm on a part of the traffic, which a good average would hide."""

import numpy as np

from eval import stats
from eval.policy import Policy
from eval.tables import Paired, Rows, View
from eval.verdict import SliceResult

EPSILON = 1e-12  # a drop of exactly the limit is not larger than it, whatever binary fractions make of it


def judge_slices(policy: Policy, pairs: dict[str, Paired], candidate: Rows) -> list[SliceResult]:
    """One-sided harm tests on every value of the policy's tags and every primary metric, Holm over all of them."""
    rules = policy.slices
    if rules is None:
        return []
    tags_of = {row.prompt_id: row.slices for row in candidate}
    drafts: list[SliceResult] = []
    drops: list[float] = []
    for metric in policy.metrics:
        data = pairs[metric.name]
        if not metric.primary or data.seen_baseline is None:
            continue
        view = View(metric)
        tags = [tags_of[prompt] for prompt in data.prompts]
        for tag in rules.tags:
            for value in sorted({slices[tag] for slices in tags if tag in slices}):
                where = np.array([slices.get(tag) == value for slices in tags]) & data.both
                if not where.any():
                    continue
                gain = data.sample(data.seen_candidate - data.seen_baseline, where)
                # Rows that were lost make a slice no smaller: what is left is tested, and may show harm.
                asked = len({data.clusters[i] for i, slices in enumerate(tags) if slices.get(tag) == value})
                powered = asked >= rules.min_clusters
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
