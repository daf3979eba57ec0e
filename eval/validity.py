"""Are these score tables evidence at all? Asked before any number is compared; the answer is one sentence, or None."""

import math
from collections import Counter
from datetime import datetime

from eval.policy import MetricPolicy, Policy
from eval.scores import ScoreRow, scores_digest
from eval.summary import RunSummary
from eval.tables import Rows, applies, count

Side = tuple[str, Rows, RunSummary | None, str | None]  # its name, its table, its summary, its model


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
    return _why_not_asked(candidate, policy) or (_why_not_paired(candidate, baseline) if baseline is not None else None)


def _why_not_asked(candidate: Rows, policy: Policy) -> str | None:
    """A demand that no prompt answers to is muted, and muted is not met."""
    for name, places in policy.needed().items():
        for only in places:
            if not any(applies(only, row) for row in candidate):
                tags = ", ".join(f"{tag}={value}" for tag, value in only.items())
                return f"The policy asks for {name} on prompts with {tags}, but there is none among the prompts."
    if policy.must_pass and not any(policy.must_pass.tag in row.slices for row in candidate):
        return f"The policy has must-pass prompts, but no prompt carries the tag {policy.must_pass.tag}."
    return None


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
    return _why_uneven(side, rows, policy) or next(
        filter(None, (_why_row_invalid(side, row, policy) for row in rows if row.status == "ok")), None
    )


def _why_uneven(side: str, rows: Rows, policy: Policy) -> str | None:
    asked: dict[str, tuple[str, dict[str, str]]] = {}
    for row in rows:
        if asked.setdefault(row.prompt_id, (row.cluster_id, row.slices)) != (row.cluster_id, row.slices):
            return f"Prompt {row.prompt_id} has two clusters or slice tags in the {side}'s score table."
    repeats = set(Counter(row.prompt_id for row in rows).values())
    if len(repeats) > 1:
        return f"The {side}'s score table does not have the same number of repeats for every prompt."
    if policy.repeats and repeats != {policy.repeats}:
        return f"The {side}'s prompts were asked {min(repeats)} times each, but the policy declares {policy.repeats}."
    return None


def _why_row_invalid(side: str, row: ScoreRow, policy: Policy) -> str | None:
    where = f"on prompt {row.prompt_id} of the {side}"
    for rule in policy.safety:
        if applies(rule.only, row) and row.metrics.get(rule.metric) not in (0.0, 1.0):
            return f"Safety metric {rule.metric} is not 0 or 1 {where}, or missing."
    for metric in (metric for metric in policy.metrics if applies(metric.only, row)):
        if problem := _why_value_invalid(metric, row, where):
            return problem
    if policy.latency and row.latency_ms is None:
        return f"Latency is missing {where}, but the policy limits it."
    if policy.cost and not row.tokens:
        return f"The number of tokens is missing {where}, but the policy limits it."
    return None


def _why_value_invalid(metric: MetricPolicy, row: ScoreRow, where: str) -> str | None:
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


def why_unlike(sides: list[Side], policy: Policy, now: datetime) -> str | None:
    """The first reason why these tables say nothing about the models, as one sentence, or None.

    A table without a summary says nothing of how it came to be; then only what is known of the other is checked.
    """
    for name, rows, run, model in sides:
        if run is None:
            continue
        if run.scores_digest != scores_digest(rows):
            return f"The {name}'s score table is not the one that its summary is about; evaluate again."
        if run.model and model and run.model != model:
            return f"The {name}'s scores are of model {run.model[:12]}, not of {model[:12]}; evaluate that one."
        hours = (now - run.evaluated_at).total_seconds() / 3600
        if policy.max_age_hours is not None and hours > policy.max_age_hours:
            return (
                f"The {name}'s answers are {hours:.0f} hours old, and the policy takes them for stale after "
                f"{policy.max_age_hours:g}; evaluate again."
            )
        if hours < -1:
            return f"The {name}'s answers are dated {-hours:.0f} hours from now; set the clock and evaluate again."
    known = [(name, run) for name, _, run, _ in sides if run]
    if len(known) == len(sides) == 2:
        (ours, mine), (theirs, other) = known
        for what, value in mine.conditions().items():
            if value != other.conditions()[what]:
                return (
                    f"The {ours} and the {theirs} were evaluated with another {what}, so their scores do not compare."
                )
    return None
