"""The two drawings of a rollout: who was meant to serve how much, when, and what the requests themselves said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.report import svg


@dataclass(frozen=True)
class Load:
    """What one step of the rollout saw, by deployment."""

    label: str
    requests: Mapping[str, int]
    errors: Mapping[str, int]


def weights(
    writes: Sequence[tuple[float, Mapping[str, int]]],
    end: float,
    names: tuple[str, str],
    width: int,
    ident: str,
    alt: str,
) -> str:
    """The candidate's share of traffic from below, the stable's from above. Times in seconds since the start.

    Without a stable (a first release) the rest is served by nobody and stays empty.
    """
    stable, candidate = names
    height = 250
    with svg.canvas(width, height) as (figure, axes):
        figure.subplots_adjust(46 / width, 44 / height, 1 - 14 / width, 1 - 16 / height)
        times = [at for at, _ in writes] + [end]
        share = [weight.get(candidate, 0) for _, weight in writes]
        share.append(share[-1])
        whole = [100] * len(times)
        above, below = svg.drawn(stable, candidate)
        axes.fill_between(times, 0, share, step="post", color=below, alpha=0.85, linewidth=0)
        if stable:
            axes.fill_between(times, share, whole, step="post", color=above, alpha=0.2, linewidth=0)
        axes.step(times, share, where="post", color=below, linewidth=2.5)
        for index, (at, _) in enumerate(writes):
            until = times[index + 1]
            if (until - at) / (end or 1) < 0.09:
                continue
            inside = share[index] > 12
            spot = share[index] - 7 if inside else share[index] + 7
            axes.text(
                (at + until) / 2,
                spot,
                f"{share[index]} %",
                ha="center",
                va="center",
                weight="bold",
                color=svg.PAPER if inside else svg.INK,
            )
        _names(axes, writes, times, share, (stable, candidate))
        axes.set_xlim(0, end or 1)
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 50, 100], ["0", "50", "100 %"])
        axes.set_xlabel("seconds since the rollout began", labelpad=6)
        axes.spines["left"].set_visible(False)
        return svg.inline(figure, ident, alt)


def _names(axes: Any, writes: Sequence[object], times: list[float], share: list[int], names: tuple[str, str]) -> None:
    """Write each colour's name where it has most room: the longest stretch in which it serves at least 40 %."""
    stable, candidate = names
    spans = [(times[i + 1] - times[i], i) for i in range(len(writes))]
    for name, part in ((stable, [100 - s for s in share]), (candidate, share)):
        room = [(span, i) for span, i in spans if part[i] >= 40]
        if not (name and room):
            continue
        _, i = max(room)
        y = 100 - part[i] / 2 if name == stable else part[i] / 2
        colour = svg.drawn(*names)[0] if name == stable else svg.PAPER
        axes.text(
            (times[i] + times[i + 1]) / 2,
            y,
            svg.label(name, 14),
            ha="center",
            va="center",
            weight="bold",
            color=colour,
            fontsize=13,
        )


def requests(loads: Sequence[Load], names: tuple[str, str], width: int, ident: str, alt: str) -> str:
    """Requests answered by each colour in each step; the part that failed is filled in the warning colour."""
    sides = [side for side in zip((-0.19, 0.19), names, svg.drawn(*names), strict=True) if side[1]]
    middle = 0.19 if len(sides) == 1 else 0.0  # one side alone stands in the middle of its row
    step = 58
    height = step * len(loads) + 48
    with svg.canvas(width, height) as (figure, axes):
        figure.subplots_adjust(64 / width, 40 / height, 1 - 134 / width, 1 - 6 / height)
        most = max((n for load in loads for n in load.requests.values()), default=1) or 1
        for y, load in enumerate(loads):
            for offset, name, drawn in sides:
                n, bad, at = load.requests.get(name, 0), load.errors.get(name, 0), y + offset - middle
                axes.barh(at, n, 0.32, color=drawn)
                axes.barh(at, bad, 0.32, color=svg.BAD)
                said = f"{svg.label(name, 12)} {n}" + (f", {bad} failed" if bad else "")
                colour, weight = (svg.BAD, "bold") if bad else (svg.INK, "normal")
                axes.text(n + most * 0.02, at, said, va="center", color=colour, weight=weight)
        axes.set_yticks(range(len(loads)), [svg.label(load.label, 9) for load in loads])
        axes.tick_params(axis="y", labelcolor=svg.INK)
        axes.set_ylim(len(loads) - 0.5, -0.5)
        axes.set_xlim(0, most)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("requests", labelpad=6)
        return svg.inline(figure, ident, alt)
