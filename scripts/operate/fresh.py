"""How the live model does on newly labelled rows, beside the score in the verdict that let it into production."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import azure_ml, storage, verdicts
from scripts.operate.facts import Fresh, Live
from scripts.settings import Settings

if TYPE_CHECKING:
    from eval.verdict import MetricResult, Verdict

FAILED = ("model_error", "blocked")  # no answer, by the model or by the filter that guards it
OLD_DAYS = 14  # an evaluation that is older says nothing about now


def score(settings: Settings, live: Live, table: Path, now: datetime) -> Fresh:
    """`table`: a score table of `evaluate` on the fresh rows. Raises EvalError for one that cannot be read."""
    from eval.scores import read_scores, scores_digest
    from eval.summary import summary_of

    rows, asked = read_scores(table), summary_of(table)
    if asked is None or asked.scores_digest != scores_digest(rows):
        return Fresh(why_none=f"{table} has no summary beside it that fits; run `evaluate` again")
    if not live.digest or asked.model != live.digest:
        return Fresh(why_none=f"{table} is about another model than the live one")
    if abs((now - asked.evaluated_at.astimezone(UTC)).days) > OLD_DAYS:
        return Fresh(why_none=f"{table} is stale: it was evaluated on {asked.evaluated_at:%Y-%m-%d}")
    verdict = passed(settings, live.digest)
    metric = next((m for m in verdict.metrics if m.primary and m.candidate_interval), None) if verdict else None
    if verdict is None or metric is None:
        return Fresh(why_none="no verdict with an interval is kept that let the live model pass")
    if (verdict.judge_digest, verdict.flow_digest) != (asked.judge_digest, asked.flow_digest):
        return Fresh(why_none="the fresh rows were asked or judged in another way than the verdict's")
    return _beside(metric, [(row.metrics.get(metric.name), row.cluster_id, row.status) for row in rows])


def _beside(metric: "MetricResult", rows: list[tuple[float | None, str, str]]) -> Fresh:
    """A model's own failure, or a content filter's refusal, scores the worst there is; one of the network nothing."""
    import numpy as np

    from eval.stats import Sample, mean_interval

    assert metric.candidate is not None  # noqa: S101
    assert metric.candidate_interval is not None  # noqa: S101
    sign = 1 if metric.direction == "higher" else -1
    given = [value for value, _, status in rows if status == "ok" and value is not None]
    binary = metric.kind == "binary"
    bounds = (0.0, 1.0) if binary or all(0 <= value <= 1 for value in given) else (min(given), max(given))
    worst = bounds[0] if sign > 0 else bounds[1]
    values = [
        (worst if status in FAILED else value, cluster)
        for value, cluster, status in rows
        if status in FAILED or (status == "ok" and value is not None)
    ]
    if len(values) < 2 or bounds[0] == bounds[1]:
        return Fresh(why_none="hardly any fresh row has a score")
    _, codes = np.unique([cluster for _, cluster in values], return_inverse=True)
    sample = Sample(np.array([value for value, _ in values], float), codes)
    low, high = mean_interval(sample, binary=binary, bounds=bounds)
    then_low, then_high = metric.candidate_interval
    return Fresh(
        metric=metric.name,
        rows=len(values),
        then=sign * metric.candidate,
        then_low=sign * (then_low if sign > 0 else then_high),
        now=sign * sample.mean,
        now_high=sign * (high if sign > 0 else low),
    )


def passed(settings: Settings, digest: str) -> "Verdict | None":
    """The latest kept verdict in which this model passed as a candidate. Raises EvalError for one somebody edited."""
    from eval.verdict import parse_verdict

    with azure_ml.explained("Looking for the live model's verdict"):
        box = storage.container(settings)
        start = f"{verdicts.FOLDER}/"
        names = [b.name for b in box.list_blobs(name_starts_with=start) if b.name.endswith("/verdict.json")]
        found = [parse_verdict(box.download_blob(name).readall(), name) for name in names]
    mine = [each for each in found if each.outcome == "pass" and each.candidate_model == digest]
    return max(mine, key=lambda each: each.created_at, default=None)
