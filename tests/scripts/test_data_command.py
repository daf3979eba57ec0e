"""`python -m scripts data check` on anyone's file: the record, the outputs, the summary and the exit code agree."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from data.report import DataCheck
from scripts import records

ROOT = Path(__file__).parents[2]
CHATS = [
    {"instruction": f"What is {number} plus {word}?", "input": "", "output": f"{number} and {word} make {word * 3}."}
    for number, word in enumerate(["one", "tulip", "river", "amber", "falcon", "quilt"])
]
ADDRESS = "jo.doe@" + "acme.io"


class Ran(NamedTuple):
    code: int
    said: str
    outputs: dict[str, str]
    summary: str
    record: DataCheck | None


def command(tmp_path: Path, *arguments: str) -> Ran:
    out, files = tmp_path / "check.json", {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    for file in files.values():
        file.write_text("")
    argv = [sys.executable, "-m", "scripts", "data", "check", *arguments, "--out", str(out)]
    environment = {**os.environ, **{name: str(file) for name, file in files.items()}}
    done = subprocess.run(argv, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    lines = (line.partition("=") for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    record = records.read(DataCheck, out) if out.exists() else None
    summary = files["GITHUB_STEP_SUMMARY"].read_text()
    return Ran(done.returncode, done.stdout + done.stderr, {name: value for name, _, value in lines}, summary, record)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.slow
def test_warnings_pass_and_errors_do_not(tmp_path: Path) -> None:
    warned = [*CHATS, {"instruction": "Write to whom?", "output": f"To {ADDRESS} of course, who else."}]
    ran = command(tmp_path, jsonl(tmp_path / "mine.jsonl", warned))
    assert (ran.code, ran.outputs) == (0, {"data_passed": "true", "data_errors": "0"})
    assert ran.record
    assert ran.record.passed
    assert {check.code: check.count for check in ran.record.checks if check.count} == {"personal_data": 1}
    assert "| personal_data | warning | 1 |" in ran.summary
    assert ADDRESS not in ran.said + ran.summary + ran.record.model_dump_json()

    broken = [*warned, CHATS[0], {"instruction": "No answer"}]
    ran = command(tmp_path, jsonl(tmp_path / "mine.jsonl", broken))
    assert (ran.code, ran.outputs) == (1, {"data_passed": "false", "data_errors": "2"})
    assert ran.record
    assert {check.code for check in ran.record.checks if check.count and check.severity == "error"} == {
        "schema",
        "duplicate",
    }


@pytest.mark.slow
def test_invalid_input_leaves_no_record(tmp_path: Path) -> None:
    for wrong in (
        [str(tmp_path / "none.jsonl")],
        [jsonl(tmp_path / "a.jsonl", CHATS), "--rules", str(tmp_path / "no")],
    ):
        ran = command(tmp_path, *wrong)
        assert (ran.code, ran.record, ran.outputs) == (3, None, {})


@pytest.mark.slow
def test_held_out_prompts_are_held_against_it(tmp_path: Path) -> None:
    held_out = [json.loads(line) for line in (ROOT / "data/heldout.jsonl").open()][:3]
    path = jsonl(tmp_path / "mine.jsonl", [*CHATS, held_out[0] | {"id": "x", "cluster_id": "y"}])
    ran = command(tmp_path, path, "--held-out", "data/heldout.jsonl")
    assert ran.code == 1
    assert ran.record
    assert [check.code for check in ran.record.checks if check.count and check.severity == "error"] == ["leakage"]
