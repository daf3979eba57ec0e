"""What people read when Azure says no: one sentence with the cause, exit code 4, no record left behind."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.deploy import why_it_died
from scripts.training_job import last_words

ROOT = Path(__file__).parents[2]

# A model folder that no library can load; every step that needs it really runs on the local Azure ML.
SCRIPT = """
set -eu
mkdir $OUT/model; echo '{"model_type": "no_such_model"}' >$OUT/model/config.json
run="$PYTHON -m scripts"
$run provision --out $OUT/provision.json
$run data --source data/tickets.jsonl --held-out data/heldout.jsonl --folder $OUT/data --out $OUT/dataset.json
$run register --folder $OUT/model --name broken --out $OUT/model.json
failing() { # failing NAME COMMAND…: keep what it printed and its code
  local name=$1 code=0; shift
  $run "$@" --out $OUT/$name.json >$OUT/$name.log 2>&1 || code=$?
  echo $code >$OUT/$name.code
}
train="train --recipe cpu_demo --dataset $OUT/dataset.json --base-model $OUT/model.json"
failing train $train
failing again $train
failing retry $train --retry-failed
failing deploy deploy --first --deployment blue --model $OUT/model.json --variable MAX_BATCH_SIZE=many
"""
FAILING = ("train", "again", "retry", "deploy")


class Said(NamedTuple):
    out: Path
    codes: dict[str, int]
    last_lines: dict[str, str]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    out = tmp_path_factory.mktemp("failures")
    env = {
        **os.environ,
        "OUT": str(out),
        "PYTHON": sys.executable,
        "EMULATOR_HOME": str(out / "azure"),
        "MLOPS_CONFIG": "scripts/environments/demo.yaml",
    }
    command = [sys.executable, "-m", "emulator", "run", "--", "bash", "-c", SCRIPT]
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdin=subprocess.DEVNULL)
    codes = {name: int((out / f"{name}.code").read_text()) for name in FAILING}
    lines = {name: (out / f"{name}.log").read_text().strip().splitlines()[-1] for name in FAILING}
    return Said(out, codes, lines)


@pytest.mark.slow
class TestFailures:
    def test_every_one_is_azures_failure_and_leaves_no_record(self, said: Said) -> None:
        assert set(said.codes.values()) == {4}
        assert not [name for name in FAILING if (said.out / f"{name}.json").exists()]

    def test_a_failed_job_says_what_the_job_said(self, said: Said) -> None:
        for name in ("train", "retry"):
            assert "ended as Failed: No tokenizer could be loaded" in said.last_lines[name], said.last_lines[name]
            assert "Traceback" not in (said.out / f"{name}.log").read_text()

    def test_a_failed_job_is_paid_for_again_only_when_asked(self, said: Said) -> None:
        assert "--retry-failed" in said.last_lines["again"]
        assert "-retry1 ended as Failed" in said.last_lines["retry"]
        assert "Streaming" not in (said.out / "again.log").read_text()

    def test_a_failed_deployment_says_what_its_server_said(self, said: Said) -> None:
        assert said.last_lines["deploy"].startswith("✗ Creating deployment blue: Azure gave up: ")
        assert "MAX_BATCH_SIZE must be a whole number of at least 1, not 'many'" in said.last_lines["deploy"]


@given(st.text())
def test_no_message_of_the_sdk_breaks_the_sentence(message: str) -> None:
    assert "\n" not in last_words(message)
    assert "\n" not in why_it_died(message)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            'Exception : \n {"error": {"message": "It failed. Error: a\\nerror: too long; cut it."}} ',
            ": too long; cut it",
        ),
        ('Exception : \n {"error": {"message": ""}}', ""),
        ('Exception : \n {"error": null}', ""),
        ("the job was cancelled", ""),
    ],
)
def test_last_words(message: str, words: str) -> None:
    assert last_words(message) == words


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ("I start\nValueError: no model\nserver.UserScriptException: Caught one\nE bye", "ValueError: no model"),
        ("Traceback\nserving.errors.ModelFailed: weights are NaN", "serving.errors.ModelFailed: weights are NaN"),
        ("I start\nOut of memory\n\n", "Out of memory"),
        ("", ""),
    ],
)
def test_why_it_died(log: str, why: str) -> None:
    assert why_it_died(log) == why
