"""`evaluate` on the local Azure ML: bound to the model that Azure says is deployed, and what is kept is used again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eval.summary import read_summary
from tests.workflows.tiny import make

ROOT = Path(__file__).parents[2]
SCRIPT = """
set -eu
run="$PYTHON -m scripts"
$run provision --out $OUT/provision.json
$run register --folder $OUT/base --name one --out $OUT/one.json
$run deploy --first --deployment blue --model $OUT/one.json --smoke $OUT/heldout.jsonl --out $OUT/blue.json
again="$run evaluate --deployment blue --prompts $OUT/heldout.jsonl"
$again --out $OUT/scores/first.jsonl
$again --out $OUT/scores/again.jsonl
$again --fresh --out $OUT/scores/fresh.jsonl
code=0
$run evaluate --deployment pink --out $OUT/scores/pink.jsonl 2>$OUT/pink.log || code=$?
echo $code >$OUT/pink.code
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    make.base_model(folder / "base")
    (folder / "heldout.jsonl").write_text(make.held_out(6))
    env = {
        **os.environ,
        "OUT": str(folder),
        "PYTHON": sys.executable,
        "EMULATOR_HOME": str(folder / "azure"),
        "MLOPS_CONFIG": "tests/workflows/tiny/environment.yaml",
    }
    command = [sys.executable, "-m", "emulator", "run", "--", "bash", "-c", SCRIPT]
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdin=subprocess.DEVNULL)
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
class TestEvaluate:
    def test_the_record_names_the_deployed_model(self, out: Path) -> None:
        done = read_summary(out / "scores" / "first.run.json")
        assert done.model == json.loads((out / "one.json").read_text())["digest"]
        assert (done.deployment, done.rows, done.infra_errors) == ("blue", 6, 0)

    def test_another_table_of_the_same_model_asks_nothing(self, out: Path) -> None:
        first, again = (read_summary(out / "scores" / f"{name}.run.json") for name in ("first", "again"))
        assert first.answer_seconds > 0 == again.answer_seconds
        assert first.scores_digest == again.scores_digest and first.evaluated_at == again.evaluated_at
        assert lines(out / "scores" / "again.jsonl") == lines(out / "scores" / "first.jsonl")

    def test_fresh_asks_again(self, out: Path) -> None:
        first, fresh = (read_summary(out / "scores" / f"{name}.run.json") for name in ("first", "fresh"))
        assert fresh.answer_seconds > 0 and fresh.evaluated_at > first.evaluated_at

    def test_a_deployment_that_is_not_there_is_one_sentence(self, out: Path) -> None:
        said = (out / "pink.log").read_text().splitlines()
        assert (out / "pink.code").read_text() == "3\n" and len(said) == 1 and "has no deployment pink" in said[0]
