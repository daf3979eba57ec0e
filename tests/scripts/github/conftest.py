"""A GitHub of its own for each test: the stand-in `gh` on PATH and its state in a file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.github import gh as stand_in


@dataclass(frozen=True)
class GitHub:
    file: Path

    @property
    def state(self) -> dict[str, Any]:
        return json.loads(self.file.read_text(encoding="utf-8"))

    def change(self, **values: Any) -> None:
        self.file.write_text(json.dumps({**self.state, **values}), encoding="utf-8")

    def writes(self) -> list[list[str]]:
        """The calls so far that were no reads."""
        return [call for call in self.state["calls"] if call[0] != "GET"]


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    file = stand_in.new_state(tmp_path / "github.json")
    monkeypatch.setenv("PATH", f"{stand_in.install(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GH_STATE", str(file))
    monkeypatch.setenv("GITHUB_REPOSITORY", stand_in.REPOSITORY)
    for name in ("AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID", "GITHUB_SERVER_URL", "GITHUB_ACTIONS", "GITHUB_SHA"):
        monkeypatch.delenv(name, raising=False)
    return GitHub(file)


@pytest.fixture
def no_gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
