"""A ledger: minutes as they were recorded, for `rollout simulate --ledger`.

Replayed, the decider sees exactly these requests, whatever weights it would have wished for: the same ledger and policy
give the same decisions.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from scripts import records
from scripts.errors import InvalidInput
from scripts.rollout.evidence import Batch, Count
from scripts.rollout.made_up import MINUTE, Source, batch, sides

LONGEST = timedelta(days=31)


class Counted(Count):
    requests: int = Field(ge=0)
    bad: int = Field(ge=0)

    @model_validator(mode="after")
    def no_more_bad_than_all(self) -> Self:
        if self.bad > self.requests:
            raise ValueError(f"{self.bad} bad ones of {self.requests} requests")
        return self


class Minute(records.Part):
    """A line of a ledger: what each side answered in the minute that began `at`, and how much of it badly."""

    at: AwareDatetime
    candidate: Counted
    stable: Counted


class Ledger(Source):
    """Minutes as they were recorded, whatever weights the decider would have wished for."""

    def __init__(self, recorded: Sequence[Minute]) -> None:
        super().__init__()
        self.start = recorded[0].at
        self._left = list(reversed(recorded))
        self._end = recorded[-1].at + MINUTE

    def minutes(self, now: datetime) -> list[Batch]:
        known = []
        while self._left and self._left[-1].at + MINUTE <= now:
            minute = self._left.pop()
            both = sides(minute.candidate, minute.stable)
            self.saw(both)
            known.append(batch(minute.at, both))
        return known

    def over(self, now: datetime) -> bool:
        return now >= self._end

    def drops(self, pairs: int) -> list[float]:  # noqa: ARG002 - nobody recorded what probes said
        return []


def recorded(batches: Sequence[Batch]) -> list[Minute]:
    """What a monitor counted, as lines of a ledger."""
    found = []
    for each in batches:
        errors = each.signals["error"]
        both = {"candidate": errors.candidate, "stable": errors.stable}
        found.append(Minute(at=each.at, **{name: Counted(**count.model_dump()) for name, count in both.items()}))
    return found


def written(minutes: Sequence[Minute]) -> str:
    return "".join(minute.model_dump_json() + "\n" for minute in minutes)


def read_ledger(path: Path) -> list[Minute]:
    """Raises InvalidInput naming the file and the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path}: the ledger cannot be read ({getattr(error, 'strerror', None) or error})."
        ) from None
    minutes: list[Minute] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                minutes.append(Minute.model_validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(str(part) for part in first["loc"]) or "not a minute"
                raise InvalidInput(f"{where}: {key}: {first['msg'].removeprefix('Value error, ')}.") from None
            if len(minutes) > 1 and minutes[-1].at < minutes[-2].at + MINUTE:
                raise InvalidInput(f"{where}: minutes must rise, each at least one after the one before.")
            if minutes[-1].at - minutes[0].at > LONGEST:
                raise InvalidInput(f"{where}: more than {LONGEST.days} days after the first minute.")
    if not minutes:
        raise InvalidInput(f"{path}: the ledger has no minutes; each line is one, as docs/rollout.md shows.")
    return minutes
