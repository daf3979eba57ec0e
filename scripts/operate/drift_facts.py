"""What the live model's collected statistics say of drift, or why they say nothing."""

from dataclasses import replace
from datetime import datetime, timedelta

from scripts import azure_ml, storage
from scripts.operate import collected, drift, judged
from scripts.operate.facts import Drift, Live
from scripts.operate.policy import DriftLimits, JudgeSample
from scripts.operate.windows import Window, compared, last_week
from scripts.settings import Settings


def look(
    settings: Settings, live: Live, limits: DriftLimits, now: datetime, sample: JudgeSample | None = None
) -> Drift:
    """The last whole week against the live model's first days. Raises AzureFailed as Azure does."""
    _, period = last_week(now)
    windows, why_none = compared(live, limits.reference_days, now)
    if why_none:
        return Drift(period, why_none=why_none)
    first, week = windows
    with azure_ml.explained("Reading what the deployment collected"):
        now_rows = _read(settings, live, week)
        # Without a week there is nothing to compare, so the first days need not be read.
        if why := _missing(now_rows, week, limits):
            return Drift(period, why_none=why)
        then_rows = _read(settings, live, first)
        if why := _missing(then_rows, first, limits):
            return Drift(period, why_none=why)
        grades, why = _judged(settings, live, windows, sample)
    then, here = (
        replace(each.rows, numbers={**each.rows.numbers, "judge": column})
        for each, column in zip((then_rows, now_rows), grades, strict=True)
    )
    return Drift(period, drift.compare(then, here, limits, {"judge_score": why} if why else {}))


def _judged(
    settings: Settings, live: Live, windows: tuple[Window, ...], sample: JudgeSample | None
) -> tuple[list[drift.Column], str]:
    """The grades of both windows by the one judge that the policy names; or none, and why."""
    none = [drift.NOTHING for _ in windows]
    if sample is None:
        return none, "no judge is named in the policy"
    _, digest = judged.judge(sample)
    box = storage.container(settings)
    found = [judged.read(box, judged.place(settings.endpoint, live, window, digest), digest) for window in windows]
    for window, each in zip(windows, found, strict=True):
        if each is None or not each.complete:
            return none, f"this judge has not graded all of its sample from {window}: run `data judge`"
    return [judged.column(each) for each in found if each], ""


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
