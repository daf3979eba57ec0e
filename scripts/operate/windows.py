"""Which rows are compared: whole days in UTC that are over, so that a second look in the same week sees the same."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from scripts.operate.facts import Live, period_of

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Window:
    """From midnight to midnight, the end left out."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d} to {self.end - DAY:%Y-%m-%d}"

    @property
    def days(self) -> list[datetime]:
        return [self.start + n * DAY for n in range((self.end - self.start).days)]


def last_week(now: datetime) -> tuple[Window, str]:
    """The last ISO week that is over, Monday to Sunday, with its name."""
    today = _midnight(now)
    monday = today - today.weekday() * DAY
    return Window(monday - 7 * DAY, monday), period_of(monday - DAY, "week")


def first_days(since: datetime, days: int) -> Window:
    """The first whole days after a moment."""
    start = _midnight(since)
    start = start if start == since else start + DAY
    return Window(start, start + days * DAY)


def _midnight(when: datetime) -> datetime:
    return when.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def compared(live: Live, reference_days: int, now: datetime) -> tuple[tuple[Window, ...], str]:
    """The live model's first days and the last week, which drift holds against each other; or none, and why."""
    week, _ = last_week(now)
    if live.since is None:
        return (), f"nobody knows since when {live.model} is live"
    first = first_days(live.since, reference_days)
    if first.end > week.start:
        return (), f"the first {reference_days} days of {live.model} ({first}) and a whole week after them are not over"
    return (first, week), ""
