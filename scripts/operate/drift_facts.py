"""What the live model's collected statistics say of drift, or why they say nothing."""

from datetime import datetime, timedelta

from scripts import azure_ml, storage
from scripts.operate import collected, drift
from scripts.operate.facts import Drift, Live
from scripts.operate.policy import DriftLimits
from scripts.operate.windows import Window, first_days, last_week
from scripts.settings import Settings


def look(settings: Settings, live: Live, limits: DriftLimits, now: datetime) -> Drift:
    """The last whole week against the live model's first days. Raises AzureFailed as Azure does."""
    week, period = last_week(now)
    if live.since is None:
        return Drift(period, why_none=f"nobody knows since when {live.model} is live")
    first = first_days(live.since, limits.reference_days)
    if first.end > week.start:
        return Drift(period, why_none=f"the first days of {live.model} ({first}) are not over before the week {period}")
    with azure_ml.explained("Reading what the deployment collected"):
        now_rows = _read(settings, live, week)
        # Without a week there is nothing to compare, so the first days need not be read.
        if why := _missing(now_rows, week, limits):
            return Drift(period, why_none=why)
        then_rows = _read(settings, live, first)
    if why := _missing(then_rows, first, limits):
        return Drift(period, why_none=why)
    return Drift(period, drift.compare(then_rows.rows, now_rows.rows, limits))


def _read(settings: Settings, live: Live, window: Window) -> collected.Statistics:
    box = storage.container(settings)
    events = collected.events(box, settings.endpoint, "statistics", window, live.deployment)
    return collected.Statistics(events, live.model)


def _missing(found: collected.Statistics, window: Window, limits: DriftLimits) -> str:
    """Why the rows are no evidence, "" when they are."""
    left_out = f", {found.unreadable:,} could not be read" if found.unreadable else ""
    if len(found.rows) < limits.min_rows:
        return f"{len(found.rows):,} rows were collected from {window} ({limits.min_rows:,} are needed{left_out})"
    if found.unreadable > len(found.rows):
        return f"most of what was collected from {window} could not be read"
    if found.newest is None or window.end - found.newest > timedelta(hours=limits.stale_hours):
        return f"the rows collected from {window} are stale: the last one came at {found.newest or 'an unknown time'}"
    return ""
