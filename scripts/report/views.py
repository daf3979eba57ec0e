"""The tables and lists of the page as plain text cells: every number is written by `text`, none is worked out here
except sums over the rollout's steps."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.report import models as m
from scripts.report import roles, text
from scripts.report.load import Records
from scripts.report.scores import LABELS, median

GOOD = ("pass", "ok")
BAD = ("fail", "harm")


@dataclass(frozen=True)
class Provenance:
    """A row of the last table; `copy` marks text that is selected whole by one tap."""

    what: str
    value: str
    copy: bool = True


def tone(outcome: str) -> str:
    return "good" if outcome in GOOD else "bad" if outcome in BAD else "unsure"


def metric_rows(verdict: m.Verdict) -> list[dict[str, str]]:
    return [
        {
            "name": text.name(x.name),
            "role": "decides" if x.primary else "",
            "baseline": text.level(x, x.baseline),
            "candidate": text.level(x, x.candidate),
            "difference": text.change(x, x.difference),
            "interval": text.levels(x.candidate_interval) if x.difference is None else text.interval(x),
            "margin": text.NONE if x.margin is None else text.change(x, -x.margin),
            "floor": text.level(x, x.floor),
            "n": "" if x.n is None else f"{x.n:,}",
            "outcome": x.outcome,
            "tone": tone(x.outcome),
            "reason": (x.reason or "").replace(x.name, text.name(x.name)),
        }
        for x in verdict.metrics
    ]


def metric_columns(verdict: m.Verdict) -> dict[str, str]:
    """The columns that say how each metric came out; a candidate that was judged alone has no difference."""
    if roles.judged_alone(verdict):
        return {"name": "Metric", "candidate": "Candidate", "interval": "Interval", "floor": "Floor"}
    compared = {"baseline": "Live model", "candidate": "Candidate", "difference": "Difference", "interval": "Interval"}
    return {"name": "Metric", **compared}


def slice_rows(verdict: m.Verdict) -> list[dict[str, str]]:
    several = len({s.metric for s in verdict.slices}) > 1
    return [
        {
            "name": f"{text.name(s.tag)}: {s.value}" + (f" ({text.name(s.metric)})" if several else ""),
            "baseline": text.level(s, s.baseline),
            "candidate": text.level(s, s.candidate),
            "difference": text.change(s, s.difference),
            "interval": text.interval(s),
            "n": "" if s.n is None else f"{s.n:,}",
            "outcome": s.outcome,
            "tone": tone(s.outcome),
        }
        for s in verdict.slices
    ]


def guard_rows(verdict: m.Verdict) -> list[dict[str, str]]:
    return [
        {
            "name": text.name(g.name),
            "value": text.number(g.value),
            "interval": text.NONE if g.interval is None else " to ".join(text.number(v) for v in g.interval),
            "limit": text.number(g.limit),
            "outcome": g.outcome,
            "tone": tone(g.outcome),
            "reason": g.reason or "",
        }
        for g in verdict.guards
    ]


def score_rows(records: Records) -> list[dict[str, str]]:
    """What came back from each side, and how fast. Latency in milliseconds, tokens of prompt and answer together."""
    return [
        {
            "name": LABELS.get(t.name, t.name),
            "prompts": f"{len({r.prompt_id for r in t.rows}):,}",
            "answers": f"{len(t.rows):,}",
            "failed": f"{sum(r.status != 'ok' for r in t.rows):,}",
            "latency": text.number(median([r.latency_ms for r in t.rows if r.latency_ms is not None])),
            "tokens": text.number(median([r.tokens for r in t.rows if r.tokens is not None])),
        }
        for t in records.scores
    ]


def training_rows(training: m.Training) -> list[tuple[str, str]]:
    """The figures of the job, with their units; one that was not recorded shows as a dash."""
    x = training.metrics

    def whole(value: float | None, unit: str) -> str:
        return text.NONE if value is None else f"{value:,.0f} {unit}"

    return [
        ("Validation loss at the end", text.number(x.eval_loss)),
        ("Time of training itself", text.duration(x.train_seconds)),
        ("Time of the whole job", text.duration(training.seconds)),
        ("Learned from", whole(x.trained_tokens, "tokens")),
        ("Speed", whole(x.tokens_per_second, "tokens/s")),
        ("Memory at most", whole(x.peak_memory_mb, "MB")),
    ]


def sides(rollout: m.Rollout) -> list[str]:
    """The deployments that shared the traffic, the stable one first; a first release has no stable one."""
    return [name for name in (rollout.stable, rollout.candidate) if name]


def step_rows(rollout: m.Rollout) -> list[dict[str, str]]:
    names = sides(rollout)

    def cells(values: dict[str, int] | dict[str, float | None]) -> str:
        return " / ".join(text.number(values.get(name)) for name in names)

    return [
        {
            "weight": text.NONE if s.weight is None else f"{s.weight} %",
            "read_back": text.traffic(s.traffic_read_back),
            "requests": cells(s.requests),
            "errors": cells(s.errors),
            "p50": cells(s.latency_ms_p50),
            "p95": cells(s.latency_ms_p95),
            "decision": s.decision,
            "tone": "bad" if "back" in s.decision.lower() else "good" if s.decision else "",
            "reason": s.reason or "",
        }
        for s in rollout.steps
    ]
