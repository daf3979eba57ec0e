"""Collected conversations that somebody called bad, for a person to label (data/feedback.py)."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from data import feedback
from scripts import azure_ml, records, storage
from scripts.errors import Refused
from scripts.operate import collected
from scripts.operate.windows import DAY, Window, first_days
from scripts.settings import Settings


class Reviewed(records.Record):
    """`feedback.json`: how much was called bad in these days, and how much of it can be labelled."""

    endpoint: str
    days: str
    down: int
    found: int
    added: int
    file: str


def take(settings: Settings, days: int, file: Path, now: datetime) -> Reviewed:
    """Add what was called bad in the last days, today included, to a review file.

    Raises Refused when nobody kept the texts, DataError for a file that holds something else.
    """
    end = first_days(now, 1).start
    window = Window(end - days * DAY, end)
    with azure_ml.explained("Reading the feedback that was collected"):
        box = storage.container(settings)
        ratings = latest(collected.events(box, settings.endpoint, "feedback", window))
        down = {name for name, rating in ratings.items() if rating == "down"}
        # An answer may be called bad the day after it was given.
        wider = Window(window.start - timedelta(days=7), window.end)
        texts = list(_rows(collected.events(box, settings.endpoint, "content", wider))) if down else []
    rows = feedback.review_rows(texts, ratings)
    if down and not rows:
        raise Refused(
            f"{len(down)} answers were called bad from {window}, and the text of none of them is kept: "
            "the collection `content` is off (serving.collect.content in the settings of the environment)."
        )
    added = feedback.add(file, rows)
    return Reviewed(
        endpoint=settings.endpoint, days=str(window), down=len(down), found=len(rows), added=added, file=str(file)
    )


def latest(events: Iterable[bytes]) -> dict[str, str]:
    """Each answer's last rating."""
    told = [(time, row) for time, rows in map(collected.parsed, events) for row in rows]
    told.sort(key=lambda each: each[0])
    return {str(row.get("id")): str(row.get("rating")) for _, row in told}


def _rows(events: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in events:
        yield from collected.parsed(line)[1]
