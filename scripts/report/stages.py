"""The train as a strip of stages: which ran, for how long, how each ended, and which were never reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scripts.report import text
from scripts.report.load import Records

State = Literal["done", "stopped", "unsure", "not reached"]

RECORD_OF = {
    "data": "dataset",
    "deploy blue": "blue",
    "train": "training",
    "register": "model",
    "deploy green": "green",
    "evaluate green": "scores",
    "gate": "verdict",
    "rollout": "rollout",
}
"""The stages that leave a record, in order; other stages of seconds.jsonl are shown where they ran."""

_GATE: dict[str, tuple[State, str]] = {
    "pass": ("done", "passed"),
    "fail": ("stopped", "refused"),
    "inconclusive": ("unsure", "undecided"),
    "invalid": ("unsure", "not valid"),
}
_ROLLOUT: dict[str, tuple[State, str]] = {
    "PROMOTED": ("done", "promoted"),
    "ROLLED_BACK": ("stopped", "rolled back"),
    "ROLLBACK_STUCK": ("stopped", "stuck"),
}
_UNKNOWN: tuple[State, str] = ("unsure", "not ended")
_NEVER: tuple[State, str] = ("not reached", "not reached")
MARKS: dict[State, str] = {"done": "✓", "stopped": "✕", "unsure": "!", "not reached": "·"}


@dataclass(frozen=True)
class Stage:
    """One stage; `share` is its part of all recorded seconds, in percent."""

    name: str
    seconds: float | None
    share: float
    state: State
    note: str

    @property
    def time(self) -> str:
        return text.duration(self.seconds)

    @property
    def mark(self) -> str:
        return MARKS[self.state]


def strip(records: Records) -> list[Stage]:
    """Every stage that ran, in the order of seconds.jsonl, then those that a whole train has and this one has not."""
    total = sum(s.seconds for s in records.seconds)
    ran = [
        Stage(s.stage, s.seconds, 100 * s.seconds / total if total else 0.0, *_state(s.stage, records))
        for s in records.seconds
    ]
    names = {stage.name for stage in ran}
    rest = [
        Stage(name, None, 0.0, *(_state(name, records) if getattr(records, record) else _NEVER))
        for name, record in RECORD_OF.items()
        if name not in names
    ]
    return ran + rest


def _state(name: str, records: Records) -> tuple[State, str]:
    """How a stage ended: by its record where it has one; a stage that ran and left none is not called done."""
    record = RECORD_OF.get(name)
    if record and not getattr(records, record):
        return "unsure", "left no record"
    judge = _JUDGES.get(name)
    return judge(records) if judge else ("done", "done")


def _gate(records: Records) -> tuple[State, str]:
    return _GATE.get(records.verdict.outcome if records.verdict else "", _UNKNOWN)


def _rollout(records: Records) -> tuple[State, str]:
    return _ROLLOUT.get(records.rollout.state if records.rollout else "", _UNKNOWN)


def _train(records: Records) -> tuple[State, str]:
    job = records.training
    if job and job.status.lower() in ("failed", "canceled", "cancelled", "notresponding"):
        return "stopped", job.status.lower()
    return "done", "attached" if job and job.attached else "done"


def _data(records: Records) -> tuple[State, str]:
    checks = records.dataset.checks if records.dataset else []
    errors = any(c.severity == "error" and c.count != 0 for c in checks)
    return ("stopped", "errors found") if errors else ("done", "done")


_JUDGES: dict[str, Callable[[Records], tuple[State, str]]] = {
    "data": _data,
    "train": _train,
    "gate": _gate,
    "rollout": _rollout,
}
