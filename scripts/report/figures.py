"""From records to drawings: which numbers go into which chart, what it says in words, when there is nothing to draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from scripts.report import charts, roles, svg, text, traffic_charts
from scripts.report import models as m
from scripts.report.load import Records
from scripts.report.scores import CANDIDATE, LABELS, STABLE, mean, metric_names
from scripts.report.views import tone

FULL, HALF, PHONE = 1040, 500, 348
"""Widths in CSS pixels: the whole page, one of two columns, a phone."""


@dataclass(frozen=True)
class Figure:
    """The same drawing for a wide and for a narrow window; style.css shows one of them."""

    wide: Markup
    narrow: Markup
    caption: str


def _both(draw: Callable[[int, str], str], ident: str, width: int, caption: str) -> Figure:
    # The drawings are made by matplotlib, which escapes every text in them, so they may go into the page as they are.
    wide, narrow = draw(width, f"{ident}-wide"), draw(PHONE, f"{ident}-narrow")
    return Figure(Markup(wide), Markup(narrow), caption)  # noqa: S704


def forest(verdict: m.Verdict) -> Figure | None:
    """Primary metrics, then the others, then the slices: those that are shares and have a difference."""
    several = len({s.metric for s in verdict.slices}) > 1
    found: list[charts.Row | None] = []
    for x in sorted(verdict.metrics, key=lambda x: not x.primary):
        name = text.name(x.name) + (" (turned: lower is better)" if x.direction == "lower" else "")
        found.append(_row(name, x, x.margin, x.primary, turned=x.direction == "lower"))
    lower = {x.name for x in verdict.metrics if x.direction == "lower"}
    for place, s in enumerate(verdict.slices):
        name = f"{text.name(s.tag)}: {s.value}" + (f" ({text.name(s.metric)})" if several else "")
        found.append(_row(name, s, None, primary=False, turned=s.metric in lower, gap=0.6 if place == 0 else 0.0))
    rows = [row for row in found if row is not None]
    if not rows:
        return None
    alt = "Forest plot of candidate minus live model in points: " + "; ".join(f"{r.label} {r.note}" for r in rows)
    caption = (
        f"{_interval_words(verdict)} Dashed: the loss that the policy still accepts. "
        "Large: the metrics that decide. Grey: not decided, or too few prompts."
    )
    return _both(lambda w, i: charts.forest(rows, w, i, alt), "forest", FULL, caption)


def _row(
    name: str, c: m.Comparison, margin: float | None, primary: bool, *, turned: bool, gap: float = 0.0
) -> charts.Row | None:
    """A comparison in points, turned round where lower is better, so that right is always better."""
    if c.difference is None or not text.is_share(c):
        return None
    sign = -1.0 if turned else 1.0
    low, high = sorted(sign * end for end in c.interval) if c.interval else (None, None)
    note = text.points(sign * c.difference) + (f" ({text.points(low)} to {text.points(high)})" if c.interval else "")
    low, high, margin = (None if v is None else 100 * v for v in (low, high, margin))
    return charts.Row(name, 100 * sign * c.difference, low, high, margin, note, tone(c.outcome), primary, gap)


def _interval_words(verdict: m.Verdict) -> str:
    if verdict.alpha and 0 < verdict.alpha < 0.5:
        return f"Bars: {round(100 * (1 - 2 * verdict.alpha), 1):g} % intervals."
    return "Bars: intervals."


def scores(records: Records) -> Figure | None:
    """At most six metrics, each for every table that has it."""
    live, tuned = svg.drawn(roles.stable(records), roles.candidate(records))
    dots = [
        charts.Dot(
            text.name(name),
            LABELS.get(t.name, t.name),
            100 * v.value,
            100 * v.low,
            100 * v.high,
            text.percent(v.value),
            tuned if t.name == CANDIDATE else live,
            candidate=t.name == CANDIDATE,
            hollow=t.name == STABLE,
        )
        for name in metric_names(records.scores)[:6]
        for t in records.scores
        if (v := mean(t, name))
    ]
    if not dots:
        return None
    alt = "Scores: " + "; ".join(f"{d.metric}, {d.label}: {d.value:.1f} % ({d.low:.1f} to {d.high:.1f})" for d in dots)
    caption = "Means over the held-out prompts with 95 % Wilson intervals; a cluster of paraphrases counts once."
    return _both(lambda w, i: charts.scores(dots, w, i, alt), "scores", HALF, caption)


def loss(training: m.Training) -> Figure | None:
    points = [(p.step, p.loss) for p in training.metrics.loss if p.loss is not None]
    if len(points) < 2:
        return None
    final = training.metrics.eval_loss
    first, last = points[0], points[-1]
    alt = f"Training loss from {first[1]:.3g} at step {first[0]:g} to {last[1]:.3g} at step {last[0]:g}"
    alt += f"; validation loss {final:.3g}" if final is not None else ""
    caption = "Loss on the training batches, and once on the validation rows at the end."
    return _both(lambda w, i: charts.loss(points, final, w, i, alt), "loss", HALF, caption)


def weights(rollout: m.Rollout) -> Figure | None:
    """Needs a time for every write; without, the table of steps has to do."""
    times = [text.moment(w.at) for w in rollout.writes]
    start = text.moment(rollout.started_at) or (times[0] if times else None)
    if not times or start is None:
        return None
    ends = [t for t in (*(text.moment(s.ended_at) for s in rollout.steps), text.moment(rollout.ended_at)) if t]
    try:
        places = [(t - start).total_seconds() for t in times if t]
        end = max([(t - start).total_seconds() for t in ends] + places)
    except TypeError:  # some stamps with a time zone and some without: they cannot be put on one axis
        return None
    if len(places) != len(times) or places != sorted(places) or places[0] < 0 or end <= 0:
        return None
    writes = [(place, w.traffic) for place, w in zip(places, rollout.writes, strict=True)]
    alt = "Weights written: " + "; ".join(f"after {text.duration(at)} {text.traffic(w)}" for at, w in writes)
    names = (rollout.stable, rollout.candidate)
    caption = f"The share of live traffic each colour was given, over {text.duration(end)}."
    return _both(lambda w, i: traffic_charts.weights(writes, end, names, w, i, alt), "weights", HALF, caption)


def requests(rollout: m.Rollout) -> Figure | None:
    loads = [
        traffic_charts.Load(text.NONE if s.weight is None else f"{s.weight} %", s.requests, s.errors)
        for s in rollout.steps
        if s.requests
    ]
    if not loads:
        return None
    names = (rollout.stable, rollout.candidate)
    said = [
        f"at {load.label} "
        + ", ".join(
            f"{n} {load.requests.get(n, 0)} with {text.plural(load.errors.get(n, 0), 'error')}" for n in names if n
        )
        for load in loads
    ]
    alt = "Requests by step: " + "; ".join(said)
    caption = f"What each colour answered at each weight of {rollout.candidate}; failed requests are marked."
    return _both(lambda w, i: traffic_charts.requests(loads, names, w, i, alt), "requests", HALF, caption)
