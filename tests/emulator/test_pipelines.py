"""Which steps of a pipeline still run after one that failed: the seeded component's own all need the one before."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from emulator import pipelines
from emulator.pipeline_steps import NEEDS, STEPS

MADE_UP = {"first": (), "second": ("first",), "third": ("second",), "other": (), "last": ("other",)}


def ran(monkeypatch: pytest.MonkeyPatch, *, go_on: bool, fails: str) -> tuple[list[str], list[str]]:
    """The steps that ran, and those that failed."""
    began: list[str] = []

    def step(_call: Any, _run: Any, name: str, _work: Any, _root: str) -> str:
        began.append(name)
        return "Failed" if name == fails else "Completed"

    monkeypatch.setattr(pipelines, "NEEDS", MADE_UP)
    monkeypatch.setattr(pipelines, "_step", step)
    monkeypatch.setattr(pipelines, "_tell", lambda _run, _line: None)
    nothing, run = cast(Any, None), cast(Any, SimpleNamespace(cancelled=threading.Event()))
    failed = pipelines._run_steps(nothing, run, list(MADE_UP), nothing, "root", go_on)
    return began, failed


def test_it_ends_at_the_first_failed_step_unless_it_is_to_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(monkeypatch, go_on=False, fails="first") == (["first"], ["first"])
    assert ran(monkeypatch, go_on=True, fails="first") == (["first", "other", "last"], ["first"])
    assert ran(monkeypatch, go_on=True, fails="other") == (["first", "second", "third", "other"], ["other"])
    assert ran(monkeypatch, go_on=False, fails="none") == (list(MADE_UP), [])


def test_every_step_of_the_component_needs_one_before_it() -> None:
    order = list(STEPS)
    assert list(NEEDS) == order
    for at, name in enumerate(order[1:], 1):
        assert order[at - 1] in NEEDS[name]
