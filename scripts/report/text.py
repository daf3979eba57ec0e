"""How numbers are written: one place, so that the page, the charts and the terminal say the same figure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from scripts.report import models as m

NONE = "–"
"""Stands where a record has no number."""

MINUS = "−"


def is_share(comparison: m.Comparison) -> bool:
    """Whether a comparison is of shares in [0, 1], which are written as percent and points."""
    values = (comparison.baseline, comparison.candidate, comparison.difference, *(comparison.interval or ()))
    return all(abs(v) <= 1 for v in values if v is not None)


def percent(value: float | None) -> str:
    """0.825 → "82.5 %"; 1.0 → "100 %"."""
    if value is None:
        return NONE
    return f"{100 * value:.0f} %" if value in (0, 1) else f"{100 * value:.1f} %"


def points(value: float | None) -> str:
    """0.625 → "+62.5"."""
    return NONE if value is None else f"{100 * value:+.1f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """-1234.5 → "−1,234"; -0.125 → "−0.125"."""
    return NONE if value is None else ("" if value == 0 else "+" if value > 0 else MINUS) + number(abs(value))


def number(value: float | None) -> str:
    """Whole numbers with thousands separators, others to three figures."""
    if value is None:
        return NONE
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def level(metric: m.Comparison, value: float | None) -> str:
    return percent(value) if is_share(metric) else number(value)


def change(metric: m.Comparison, value: float | None) -> str:
    return points(value) if is_share(metric) else signed(value)


def interval(metric: m.Comparison) -> str:
    """ "+50.1 to +73.2", in points for shares."""
    if metric.interval is None:
        return NONE
    return " to ".join(change(metric, end) for end in metric.interval)


def levels(ends: m.Interval) -> str:
    """ "85.0 % to 98.9 %": an interval of a value itself; figures for what is no share."""
    if ends is None:
        return NONE
    write = percent if all(abs(end) <= 1 for end in ends) else number
    return " to ".join(write(end) for end in ends)


def duration(seconds: float | None) -> str:
    """0.42 → "0.4 s", 151 → "2 min 31 s"."""
    if seconds is None:
        return NONE
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def traffic(weights: Mapping[str, int]) -> str:
    """{"blue": 50, "green": 50} → "blue 50 %, green 50 %"; zero weights are left out unless all are zero."""
    shown = {k: v for k, v in weights.items() if v} or dict(weights)
    return ", ".join(f"{name} {weight} %" for name, weight in sorted(shown.items())) or NONE


def short(digest: str | None) -> str:
    """The first 12 figures of a digest, as people compare them."""
    return NONE if not digest else digest.removeprefix("sha256:")[:12]


def name(raw: str) -> str:
    """exact_match → "exact match"."""
    return raw.replace("_", " ").strip()


def moment(stamp: str | None) -> datetime | None:
    """A time from an ISO 8601 stamp; None for what is not one."""
    try:
        return datetime.fromisoformat(stamp) if stamp else None
    except ValueError:
        return None
