"""The few numbers on top of the page: what changed, what live traffic said, how long it took, what rollback means."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.report import models as m
from scripts.report import roles, text
from scripts.report.load import Records
from scripts.report.scores import CANDIDATE, LABELS, judged_baseline, mean, primary
from scripts.report.story import final_traffic
from scripts.report.views import sides as sides_of
from scripts.report.views import tone


@dataclass(frozen=True)
class Fact:
    """One of the few numbers on top. `tone` colours it: good, bad or none."""

    label: str
    value: str
    detail: str = ""
    tone: str = ""


def before_after(records: Records, name: str) -> tuple[float | None, float | None]:
    """A metric of live model and candidate: as the gate judged them, else from the score tables."""
    judged = next((x for x in records.verdict.metrics if x.name == name), None) if records.verdict else None
    if judged:
        return judged.baseline, judged.candidate
    tables = judged_baseline(records), records.table(CANDIDATE)
    means = [mean(table, name) if table else None for table in tables]
    return means[0].value if means[0] else None, means[1].value if means[1] else None


def facts(records: Records) -> list[Fact]:
    rollout = records.rollout
    name = primary(records)
    judged = next((x for x in records.verdict.metrics if x.name == name), None) if records.verdict else None
    before, after = before_after(records, name)
    share = judged or m.Comparison(baseline=before, candidate=after)
    known = before is not None or after is not None
    table = judged_baseline(records)
    sides = f"{LABELS.get(table.name, table.name) if table else 'Live model'} → candidate"
    levels = f"{text.level(share, before)} → {text.level(share, after)}"
    if before is None and roles.first_release(records):
        sides, levels = "the candidate alone: a first release", text.level(share, after)
    shown = [
        Fact(
            text.name(name).capitalize(),
            levels if known else text.NONE,
            (sides[0].lower() + sides[1:]) if known else "not scored",
            tone(judged.outcome) if judged else "",
        )
    ]
    if rollout and rollout.steps:
        seen = sum(sum(step.requests.values()) for step in rollout.steps)
        failed = sum(sum(step.errors.values()) for step in rollout.steps)
        per_colour = [(c, sum(step.errors.get(c, 0) for step in rollout.steps)) for c in sides_of(rollout)]
        detail = ", ".join(f"{colour} {n}" for colour, n in per_colour)
        shown.append(Fact("Live requests", f"{seen:,}", f"in {text.plural(len(rollout.steps), 'step')} of the rollout"))
        shown.append(Fact("Errors", f"{failed:,}", detail, "bad" if failed else "good"))
    else:
        shown.append(Fact("Live requests", text.NONE, "no rollout on record"))
        shown.append(Fact("Errors", text.NONE, "no rollout on record"))
    total = sum(s.seconds for s in records.seconds) if records.seconds else None
    stages = text.plural(len(records.seconds), "stage") if records.seconds else "not recorded"
    shown.append(Fact("Time in all", text.duration(total), stages))
    if records.training and records.training.cost:
        shown.append(_paid(records.training.cost))
    if records.candidate and records.candidate.tier:
        shown.append(Fact("Served by", f"tier {records.candidate.tier}", records.candidate.instance_type or text.NONE))
    shown.append(_fallback(records))
    return shown


def _paid(cost: m.Paid) -> Fact:
    """What the training job did cost; a price that nobody knows is no zero."""
    hours = f"{cost.node_hours:.2f} node-hours" if cost.node_hours is not None else "hours not known"
    if cost.amount is None:
        return Fact("Training cost", "unknown", hours)
    return Fact("Training cost", f"{cost.amount:,.2f} {cost.currency}", f"{hours}, price of {cost.priced_at}")


def _fallback(records: Records) -> Fact:
    """What a rollback goes back to, or what goes on serving when there was no rollout."""
    stable, (model, _) = roles.stable(records), roles.stable_model(records)
    if not stable:
        first = roles.first_release(records)
        return Fact("Rollback goes to", text.NONE, "a first release" if first else "no live deployment on record")
    if records.rollout and records.rollout.state == "PROMOTED":
        label = "Rollback goes to"
    else:
        label = "Serving now" if final_traffic(records).get(stable) == 100 else "Stable colour"
    return Fact(label, stable, model or "model not on record")
