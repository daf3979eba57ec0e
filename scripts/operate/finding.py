"""What `reap` says of one thing, and the words that its rules share."""

from datetime import datetime, timedelta
from typing import Literal

from scripts import records

Action = Literal["delete", "archive", "scale to 0", "report", "keep"]
DOABLE: tuple[Action, ...] = ("delete", "archive", "scale to 0")


class Finding(records.Part):
    """One thing nobody seems to use: what would be done about it, why, and what leaving it costs."""

    kind: str
    name: str
    action: Action
    why: str
    cost: str

    @property
    def doable(self) -> bool:
        return self.action in DOABLE


def first(*rules: tuple[object, str]) -> str:
    """The reason of the first rule that holds; "" when none does."""
    return next((why for holds, why in rules if holds), "")


def younger(when: datetime | None, hours: float, now: datetime) -> bool:
    """Unknown is young, and so is the future: a wrong clock deletes nothing."""
    return when is None or now - when < timedelta(hours=hours)
