"""The train as a strip of stages: which ran, for how long, how each ended, and which were never reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scripts.report import text
from scripts.report.load import Records
from scripts.report.scores import CANDIDATE, FEW_SHOT, STABLE

State = Literal["done", "stopped", "unsure", "not reached"]

LEAVES: dict[str, Callable[[Records], object]] = {
    "data": lambda records: records.dataset,
    "train": lambda records: records.training,
    "register": lambda records: records.model,
    "deploy candidate": lambda records: records.candidate,
    "evaluate candidate": lambda records: records.table(CANDIDATE),
    "gate": lambda records: records.verdict,
    "rollout": lambda records: records.rollout,
}
"""The stages of every train and the record that each leaves, in order."""
OF_THE_LIVE_MODEL: dict[str, Callable[[Records], object]] = {
    "deploy stable": lambda records: records.stable,
    "evaluate stable": lambda records: records.table(STABLE),
    "evaluate stable, few-shot": lambda records: records.table(FEW_SHOT),
}
"""Stages that leave a record and that a train may well not have: a live model is there already, or not yet."""

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
    """Every stage that ran, in the order of seconds.jsonl, then those of a whole train that have no seconds."""
    total = sum(s.seconds for s in records.seconds)
    ran = [
        Stage(s.stage, s.seconds, 100 * s.seconds / total if total else 0.0, *_state(s.stage, records))
        for s in records.seconds
    ]
    names = {stage.name for stage in ran}
    rest = [
        Stage(name, None, 0.0, *(_state(name, records) if left(records) else _NEVER))
        for name, left in LEAVES.items()
        if name not in names
    ]
    return ran + rest


def _state(name: str, records: Records) -> tuple[State, str]:
    """How a stage ended: by its record where it has one; a stage that ran and left none is not called done."""
    left = LEAVES.get(name) or OF_THE_LIVE_MODEL.get(name)
    if left and not left(records):
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
