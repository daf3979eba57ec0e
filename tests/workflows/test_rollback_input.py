"""The emergency brake's step as GitHub runs it: what a person typed reaches the command as words, never as shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflows.policy import read

WORKFLOW = read().workflows["rollback.yml"]
(STEP,) = (step for step in WORKFLOW["jobs"]["rollback"]["steps"] if step.get("id") == "rollback")
TOLD = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
HOSTILE = ["$(touch x)", '"; touch x; "', "`touch x`", "a b", "*"]


def words(folder: Path, **typed: str) -> list[str]:
    """What `python` was called with, for what was typed into the form."""
    (folder / "python").write_text(TOLD)
    (folder / "python").chmod(0o755)
    given = {name: value.removeprefix("${{ inputs.").removesuffix(" }}") for name, value in STEP["env"].items()}
    environment = {name: typed.get(wanted, "") for name, wanted in given.items()}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEP["run"]],
        cwd=folder,
        env={**environment, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(done.stdout)
    return found


def test_without_a_colour_the_state_says_where_back_is(tmp_path: Path) -> None:
    asked = words(tmp_path, endpoint="phi", reason="slow answers")
    assert asked[3:] == ["--endpoint", "phi", "--reason", "slow answers", "--out", "out/rollback.json"]


@pytest.mark.parametrize("typed", ["blue", *HOSTILE])
def test_a_colour_is_one_word_of_the_command(tmp_path: Path, typed: str) -> None:
    asked = words(tmp_path, endpoint="phi", reason=typed, to=typed)
    assert asked[3:] == ["--endpoint", "phi", "--reason", typed, "--to", typed, "--out", "out/rollback.json"]
    assert not (tmp_path / "x").exists()


def test_only_colours_can_be_chosen_and_nobody_has_to() -> None:
    from scripts.live import COLOURS

    chosen = WORKFLOW["on"]["workflow_dispatch"]["inputs"]["to"]
    assert (chosen["type"], chosen["options"], chosen["default"]) == ("choice", ["", *COLOURS], "")
    assert chosen["required"] is False
