"""Two score tables as the decider needs them: first whether they may be compared at all, then paired numbers."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.policy import MetricPolicy, Policy
from eval.scores import ScoreRow
from eval.stats import Array, Interval, Sample
from eval.verdict import SideCounts

Rows = Sequence[ScoreRow]


def count(rows: Rows) -> SideCounts:
    statuses = [row.status for row in rows]
    return SideCounts(
        rows=len(rows),
        prompts=len({row.prompt_id for row in rows}),
        model_errors=statuses.count("model_error"),
        infra_errors=statuses.count("infra_error"),
    )


def why_invalid(candidate: Rows, baseline: Rows | None, policy: Policy) -> str | None:
    """The first reason why these tables are no evidence, as one sentence, or None."""
    if not any(metric.primary for metric in policy.metrics):
        return "The policy has no primary metric, so nothing would be judged."
    if baseline is None and not any(metric.primary and metric.floor is not None for metric in policy.metrics):
        return "There is no baseline and no primary metric has a floor, so nothing would be judged."
    sides = [("candidate", candidate)] + ([("baseline", baseline)] if baseline is not None else [])
    for side, rows in sides:
        problem = _why_table_invalid(side, rows, policy)
        if problem:
            return problem
    return _why_not_paired(candidate, baseline) if baseline is not None else None


def _why_table_invalid(side: str, rows: Rows, policy: Policy) -> str | None:
    if not rows:
        return f"The {side}'s score table is empty."
    if len({row.key for row in rows}) < len(rows):
        return f"The {side}'s score table has the same prompt and repeat twice."
    infra = count(rows).infra_errors
    if infra > policy.max_infra_error_rate * len(rows):
        return (
            f"{infra} of the {side}'s {len(rows)} rows were lost to infrastructure errors, more than the "
            f"{policy.max_infra_error_rate:.0%} allowed; repair the endpoint and evaluate again."
        )
    return _why_uneven(side, rows) or next(
        filter(None, (_why_row_invalid(side, row, policy) for row in rows if row.status == "ok")), None
    )


def _why_uneven(side: str, rows: Rows) -> str | None:
    asked: dict[str, tuple[str, dict[str, str]]] = {}
    for row in rows:
        if asked.setdefault(row.prompt_id, (row.cluster_id, row.slices)) != (row.cluster_id, row.slices):
            return f"Prompt {row.prompt_id} has two clusters or slice tags in the {side}'s score table."
    repeats = Counter(row.prompt_id for row in rows)
    if len(set(repeats.values())) > 1:
        return f"The {side}'s score table does not have the same number of repeats for every prompt."
    return None


def _why_row_invalid(side: str, row: ScoreRow, policy: Policy) -> str | None:
    where = f"on prompt {row.prompt_id} of the {side}"
    for metric in policy.metrics:
        value = row.metrics.get(metric.name)
        if value is None:
            known = ", ".join(sorted(row.metrics)) or "none"
            return f"Metric {metric.name} of the policy is missing {where} (it has: {known})."
        if not math.isfinite(value):
            return f"Metric {metric.name} is not a finite number {where}."
        if not metric.range[0] <= value <= metric.range[1]:
            return f"Metric {metric.name} is {value:g} {where}, outside its range."
        if metric.kind == "binary" and value not in (0.0, 1.0):
            return f"Metric {metric.name} is {value:g} {where}, but a binary metric is 0 or 1."
    if policy.latency and row.latency_ms is None:
        return f"Latency is missing {where}, but the policy limits it."
    return None


def _why_not_paired(candidate: Rows, baseline: Rows) -> str | None:
    ours, theirs = ({row.key: row for row in rows} for rows in (candidate, baseline))
    for name, missing in (("candidate", theirs.keys() - ours.keys()), ("baseline", ours.keys() - theirs.keys())):
        if missing:
            prompt, repeat = min(missing)
            return (
                f"The {name} has no row for {len(missing)} of the other side's rows (first: prompt {prompt}, "
                f"repeat {repeat}); both must answer the same prompts."
            )
    for key, row in ours.items():
        if (row.cluster_id, row.slices) != (theirs[key].cluster_id, theirs[key].slices):
            return f"Prompt {key[0]} has another cluster or other slice tags on each side."
    return None


@dataclass(frozen=True)
class Paired:
    """One metric per prompt, turned so that higher is better; arrays are (prompts,) float.

    `seen_*` average the repeats that came back, NaN where none did. `harsh_candidate` takes the worst value for an
    infrastructure error and `harsh_baseline` the best: what is lost may not help the candidate.
    """

    clusters: NDArray[np.intp]
    seen_candidate: Array
    seen_baseline: Array | None
    harsh_candidate: Array
    harsh_baseline: Array | None

    @property
    def both(self) -> NDArray[np.bool_]:
        """(prompts,) True where every side has an answer or a failure of the model."""
        seen = ~np.isnan(self.seen_candidate)
        return seen if self.seen_baseline is None else seen & ~np.isnan(self.seen_baseline)

    def sample(self, values: Array, where: NDArray[np.bool_] | None = None) -> Sample:
        return Sample.of(values, self.clusters) if where is None else Sample.of(values[where], self.clusters[where])


def pair(metric: MetricPolicy, candidate: Rows, baseline: Rows | None) -> Paired:
    """Average the repeats of each prompt and line the two sides up by prompt id. Tables must have passed the checks."""
    prompts = sorted({row.prompt_id: row.cluster_id for row in candidate}.items())
    index = {prompt: i for i, (prompt, _) in enumerate(prompts)}

    def side(rows: Rows, lost: float) -> tuple[Array, Array]:
        sums = np.zeros((2, len(index)))
        counts = np.zeros((2, len(index)))
        for row in rows:
            at = index[row.prompt_id]
            infra = row.status == "infra_error"
            value = metric.worst if row.status == "model_error" else lost if infra else row.metrics[metric.name]
            value = value if metric.direction == "higher" else metric.range[0] + metric.range[1] - value
            sums[1, at] += value
            counts[1, at] += 1
            if not infra:
                sums[0, at] += value
                counts[0, at] += 1
        with np.errstate(invalid="ignore"):
            seen, harsh = sums / counts
        return seen, harsh

    seen, harsh = side(candidate, metric.worst)
    other = side(baseline, metric.best) if baseline is not None else (None, None)
    names = np.unique([cluster for _, cluster in prompts], return_inverse=True)[1]
    return Paired(names.reshape(-1), seen, other[0], harsh, other[1])


@dataclass(frozen=True)
class View:
    """Turns numbers in which higher is better back into the metric's own direction, for the record (and vice versa)."""

    metric: MetricPolicy

    def value(self, value: float) -> float:
        return value if self.metric.direction == "higher" else sum(self.metric.range) - value

    def values(self, interval: Interval) -> Interval:
        low, high = sorted(self.value(end) for end in interval)
        return low, high

    def difference(self, difference: float) -> float:
        return difference if self.metric.direction == "higher" else -difference

    def differences(self, interval: Interval) -> Interval:
        low, high = sorted(self.difference(end) for end in interval)
        return low, high
