"""The stubs of pinned actions: one for each pin and none besides, with inputs that the real action has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflows.act import STUBS, USES
from tests.workflows.repository import ROOT

LINTER = Path(sys.executable).parent / "jactionlint"
COMMENT = " # v"
FILES = [path for path in (ROOT / ".github").rglob("*.yml") if path.parent.name != "ISSUE_TEMPLATE"]


def pinned() -> dict[str, str]:
    """OWNER/NAME to `SHA # version` of every action that is not of this repository."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            if match := USES.search(line):
                found.setdefault(match[1], set()).add(line.partition("@")[2])
    assert all(len(pins) == 1 for pins in found.values()), f"one version of each action: {found}"
    return {name: pins.pop() for name, pins in found.items()}


def stub(name: str) -> dict[str, dict[str, object]]:
    return dict(yaml.safe_load((STUBS / name / "action.yml").read_text(encoding="utf-8")))


def test_there_is_a_stub_for_every_pin_and_none_besides() -> None:
    stubs = {str(path.parent.relative_to(STUBS)) for path in STUBS.rglob("action.yml")}
    assert stubs == set(pinned())


@pytest.mark.parametrize("name", sorted(pinned()))
def test_a_pin_is_a_commit_with_its_version(name: str) -> None:
    sha, comment, version = pinned()[name].partition(COMMENT)
    assert len(sha) == 40
    assert comment, "say which version the commit is"
    assert version.count(".") == 2


@pytest.mark.parametrize("name", sorted(pinned()))
def test_a_stub_takes_only_what_the_real_action_takes(name: str, tmp_path: Path) -> None:
    """The linter knows the inputs of every version of these actions: it must name a made-up one and no other."""
    given = {**dict.fromkeys(stub(name).get("inputs", {}), "x"), "made-up": "x"}
    workflow = tmp_path / ".github" / "workflows" / "a.yml"
    workflow.parent.mkdir(parents=True)
    inputs = "".join(f"          {key}: {value}\n" for key, value in given.items())
    workflow.write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n"
        f"      - uses: {name}@{pinned()[name]}\n        with:\n{inputs}"
    )
    command = [LINTER, "--no-online", "--select", "unknown-action-input", "--format", "oneline", str(workflow)]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout.splitlines()
    assert len(said) == 1, said
    assert 'input "made-up" is not defined' in said[0]
