"""Two score tables as the decider needs them: counts, and paired numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.policy import MetricPolicy
from eval.scores import ScoreRow
from eval.stats import Array, Interval, Sample
from eval.verdict import Counts, SideCounts

Rows = Sequence[ScoreRow]


def count(rows: Rows) -> SideCounts:
    statuses = [row.status for row in rows]
    return SideCounts(
        rows=len(rows),
        prompts=len({row.prompt_id for row in rows}),
        model_errors=statuses.count("model_error"),
        blocked=statuses.count("blocked"),
        infra_errors=statuses.count("infra_error"),
    )


def refused(counts: Counts) -> list[str]:
    """What whoever reads a verdict must know of answers that nobody got."""
    sides = (("candidate", counts.candidate), ("baseline", counts.baseline))
    return [
        f"{side.blocked} of the {name}'s {side.rows} answers were refused by a content filter and count as wrong."
        for name, side in sides
        if side and side.blocked
    ]


def applies(only: dict[str, str], row: ScoreRow) -> bool:
    """Whether a demand for rows with these tags is about this row."""
    return only.items() <= row.slices.items()


@dataclass(frozen=True)
class Paired:
    """One metric per prompt, turned so that higher is better; arrays are (prompts,) float.

    Only prompts that the metric is about are in it; `prompts` names them, sorted. `seen_*` average the repeats that
    came back, NaN where none did. `harsh_candidate` takes the worst value for an infrastructure error and
    `harsh_baseline` the best: what is lost may not help the candidate.
    """

    prompts: list[str]
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
    prompts = sorted({row.prompt_id: row.cluster_id for row in candidate if applies(metric.only, row)}.items())
    index = {prompt: i for i, (prompt, _) in enumerate(prompts)}

    def side(rows: Rows, lost: float) -> tuple[Array, Array]:
        sums = np.zeros((2, len(index)))
        counts = np.zeros((2, len(index)))
        for row in rows:
            if (at := index.get(row.prompt_id)) is None:
                continue
            infra = row.status == "infra_error"
            value = metric.worst if row.failed else lost if infra else row.metrics[metric.name]
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
    return Paired([prompt for prompt, _ in prompts], names.reshape(-1), seen, other[0], harsh, other[1])


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
