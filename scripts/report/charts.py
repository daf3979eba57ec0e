"""The drawings of the page. Each takes plain numbers and a width in CSS pixels, and returns an `<svg>` element.

Blue and green stand for the two deployments of the release (Okabe-Ito, told apart by colour-blind readers) and differ
in marker or place as well. Lines carry their names themselves, so there is no legend to look up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.report import svg

NARROW = 480
"""Below this width a drawing is for a phone: labels stand above their row instead of beside it."""


@dataclass(frozen=True)
class Row:
    """A line of the forest plot, in points. `tone`: good, bad or none (not decided)."""

    label: str
    value: float
    low: float | None
    high: float | None
    margin: float | None
    note: str
    tone: str
    primary: bool
    gap: float = 0.0


@dataclass(frozen=True)
class Dot:
    """A score with its interval, all in percent, in the colour of the deployment that it is about."""

    metric: str
    label: str
    value: float
    low: float
    high: float
    said: str
    colour: str
    candidate: bool = False
    hollow: bool = False


def forest(rows: Sequence[Row], width: int, ident: str, alt: str) -> str:
    """Difference with interval for each metric and slice; the dashed tick is the margin that may be lost at most.

    `gap` of a row is the room left above it, in rows.
    """
    narrow = width < NARROW
    step, top = (46 if narrow else 30), 14
    places = [place + sum(row.gap for row in rows[: place + 1]) for place in range(len(rows))]
    height = top + step * (places[-1] + 1) + 44
    with svg.canvas(width, height) as (figure, axes):
        left, right = (12, 12) if narrow else (190, 180)
        figure.subplots_adjust(left / width, 44 / height, 1 - right / width, 1 - top / height)
        ends = [v for r in rows for v in (r.value, r.low, r.high, -(r.margin or 0)) if v is not None] + [0]
        pad = max(2.0, 0.05 * (max(ends) - min(ends)))
        axes.set_xlim(min(ends) - pad, max(ends) + pad)
        axes.set_ylim(places[-1] + 0.5, -0.5)
        axes.grid(axis="x")
        axes.axvline(0, color=svg.INK, linewidth=1.5)
        for y, row in zip(places, rows, strict=True):
            colour = {"good": svg.GREEN, "bad": svg.BAD}.get(row.tone, svg.MUTED)
            lift = y + 0.14 if narrow else y
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [lift, lift], color=colour, linewidth=4 if row.primary else 2.5)
            fill = colour if row.tone in ("good", "bad") else svg.PAPER
            size = 10 if row.primary else 7.5
            axes.plot(row.value, lift, "D" if row.primary else "o", color=colour, mfc=fill, mew=2, markersize=size)
            if row.margin is not None:
                tick = [lift - 0.16, lift + 0.16] if narrow else [y - 0.3, y + 0.3]
                axes.plot([-row.margin] * 2, tick, color=svg.INK, linewidth=1.5, linestyle=(0, (2, 2)))
            _row_names(axes, row, y, width - left - right, narrow)
        _plain_x(axes, "points, candidate − live model: right of 0 is better")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return svg.inline(figure, ident, alt)


def _row_names(axes: Any, row: Row, y: float, inner: int, narrow: bool) -> None:
    """Name and figures of a row: beside the drawing, or above the row on paper of their own where it is narrow."""
    weight, at = "bold" if row.primary else "normal", axes.get_yaxis_transform()
    if not narrow:
        axes.text(-14 / inner, y, svg.label(row.label, 26), transform=at, weight=weight, va="center", ha="right")
        axes.text(1 + 14 / inner, y, row.note, transform=at, color=svg.MUTED, va="center")
        return
    paper = {"facecolor": svg.PAPER, "edgecolor": "none", "pad": 1}
    axes.text(0, y - 0.25, svg.label(row.label, 22), transform=at, weight=weight, va="center", bbox=paper)
    axes.text(1, y - 0.25, row.note, transform=at, color=svg.MUTED, va="center", ha="right", fontsize=11, bbox=paper)


def scores(dots: Sequence[Dot], width: int, ident: str, alt: str) -> str:
    """Each metric a group; in it a line for each table, with its 95 % interval and its figure written beside it."""
    metrics = list(dict.fromkeys(d.metric for d in dots))
    lines: list[tuple[float, Dot]] = []
    heads: list[tuple[float, str]] = []
    y = 0.0
    for metric in metrics:
        heads.append((y, metric))
        for dot in (d for d in dots if d.metric == metric):
            y += 1
            lines.append((y, dot))
        y += 1.35
    height = 22 * (y + 0.2) + 34
    with svg.canvas(width, height) as (figure, axes):
        left, right = 158, 62
        figure.subplots_adjust(left / width, 30 / height, 1 - right / width, 1 - 4 / height)
        axes.set_xlim(0, 100)
        axes.set_ylim(y - 0.35, -0.5)
        axes.grid(axis="x")
        at = axes.get_yaxis_transform()
        inner = width - left - right
        for place, metric in heads:
            axes.text(-left / inner, place, svg.label(metric), transform=at, weight="bold", va="center")
        for place, dot in lines:
            fill, mark = svg.PAPER if dot.hollow else dot.colour, "o" if dot.candidate else "s"
            axes.plot([dot.low, dot.high], [place, place], color=dot.colour, linewidth=2.5)
            axes.plot(dot.value, place, mark, color=dot.colour, mfc=fill, mew=2, markersize=8, clip_on=False)
            axes.text(
                -10 / inner, place, svg.label(dot.label, 21), transform=at, color=svg.MUTED, va="center", ha="right"
            )
            axes.text(
                1 + 14 / inner,
                place,
                dot.said,
                transform=at,
                va="center",
                weight="bold" if dot.candidate else "normal",
            )
        axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return svg.inline(figure, ident, alt)


def loss(points: Sequence[tuple[float, float]], final: float | None, width: int, ident: str, alt: str) -> str:
    """Training loss by step and the loss on the validation rows at the end."""
    height = 270
    with svg.canvas(width, height) as (figure, axes):
        figure.subplots_adjust(42 / width, 44 / height, 1 - 20 / width, 1 - 16 / height)
        axes.grid(axis="y")
        steps, values = [p[0] for p in points], [p[1] for p in points]
        axes.plot(steps, values, color=svg.BLUE)
        axes.plot(steps[-1], values[-1], "o", color=svg.BLUE, markersize=6)
        top = max([*values, final or 0]) * 1.12 or 1.0
        axes.set_ylim(min([0, *values]), top)
        axes.annotate(f"{values[0]:.3g}", (steps[0], values[0]), (8, 4), **_SAID, color=svg.BLUE)
        ends = [(values[-1], f"training {values[-1]:.3g}", svg.BLUE)]
        if final is not None:
            axes.plot(steps[-1], final, "D", color=svg.GREEN, markersize=8)
            ends.append((final, f"validation {final:.3g}", svg.GREEN))
        apart = abs(ends[0][0] - ends[-1][0]) / top > 0.15
        above = max(value for value, _, _ in ends)
        for place, (value, words, colour) in enumerate(sorted(ends, key=lambda end: end[0])):
            spot = (0, 12) if apart or place == 0 else (0, 30)
            axes.annotate(words, (steps[-1], value if apart else above), spot, **_SAID, ha="right", color=colour)
        _plain_x(axes, "training step")
        axes.spines["left"].set_visible(False)
        return svg.inline(figure, ident, alt)


_SAID = {"textcoords": "offset points", "va": "bottom", "weight": "bold"}


def _plain_x(axes: Any, words: str) -> None:
    axes.set_xlabel(words, labelpad=6)
    axes.tick_params(axis="x", pad=5)
