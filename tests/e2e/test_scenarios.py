"""Two whole release trains on the local Azure ML: one that comes back by itself (and is then released), one refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
BASH = "set -u\n"
# A scenario takes four to seven minutes on two cores; its first test waits for it.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

# After the scenario came back to blue, in the same Azure ML: the same training again (it must attach), then the same
# candidate on a server without the short limit (it must become live).
AFTER_ROLLBACK = """
bash demo.sh rollback; echo $? >"$DEMO_OUT/code"
export MLOPS_CONFIG=scripts/environments/demo.yaml
run=".venv/bin/python -m scripts"
$run train --recipe cpu_demo --dataset "$DEMO_OUT/dataset.json" --base-model "$DEMO_OUT/model-baseline.json" \\
  --out "$DEMO_OUT/training-again.json" || exit 9
$run deploy --deployment green --model "$DEMO_OUT/model.json" --out "$DEMO_OUT/deployment-again.json" || exit 9
$run rollout run --again --candidate green --verdict "$DEMO_OUT/verdict.json" \\
  --out "$DEMO_OUT/rollout-again.json" || exit 9
"""


class Ran(NamedTuple):
    out: Path
    home: Path
    code: int

    def record(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.out / name).read_text(encoding="utf-8")))


def train(folder: Path, script: str) -> Ran:
    """Run a shell script inside a local Azure ML of its own."""
    out, home = folder / "out", folder / "azure"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "run", "--", "bash", "-c", BASH + script],
        cwd=ROOT,
        env={**os.environ, "DEMO_OUT": str(out), "EMULATOR_HOME": str(home)},
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ran(out, home, done.returncode)


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return train(tmp_path_factory.mktemp("rollback"), AFTER_ROLLBACK)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return train(tmp_path_factory.mktemp("refused"), "bash demo.sh refused")


class TestRollback:
    def test_everything_around_the_scenario_worked(self, rolled_back: Ran) -> None:
        assert rolled_back.code == 0

    def test_the_train_ends_with_code_1(self, rolled_back: Ran) -> None:
        assert (rolled_back.out / "code").read_text().strip() == "1"

    def test_the_candidate_passed_the_gate_by_40_points(self, rolled_back: Ran) -> None:
        summary = rolled_back.record("summary.json")
        match = summary["exact_match"]
        assert summary["verdict"] == "pass"
        assert match["candidate"] - match["baseline"] >= 0.40

    def test_traffic_went_up_and_came_back(self, rolled_back: Ran) -> None:
        rollout, summary = rolled_back.record("rollout.json"), rolled_back.record("summary.json")
        assert rollout["state"] == "ROLLED_BACK"
        assert summary["writes"][0] == {"blue": 90, "green": 10}
        assert summary["writes"][-1] == {"blue": 100, "green": 0}
        assert {name: weight for name, weight in summary["traffic"].items() if weight} == {"blue": 100}
        assert sum(step["errors"]["green"] for step in rollout["steps"]) > 0
        assert sum(step["errors"]["blue"] for step in rollout["steps"]) == 0

    def test_training_learned_and_left_its_lineage(self, rolled_back: Ran) -> None:
        training, model = rolled_back.record("training.json"), rolled_back.record("model.json")
        dataset = rolled_back.record("dataset.json")
        loss = [point["loss"] for point in training["metrics"]["loss"]]
        assert loss[-1] < loss[0] / 2
        assert model["digest"] == training["model_digest"]
        assert model["lineage"] == {
            "data": dataset["digest"],
            "code": training["code_digest"],
            "recipe": training["recipe"]["digest"],
            "job": training["job_name"],
        }

    def test_the_same_training_again_attaches_and_trains_nothing(self, rolled_back: Ran) -> None:
        first, again = rolled_back.record("training.json"), rolled_back.record("training-again.json")
        assert (first["attached"], again["attached"]) == (False, True)
        assert again["job_name"] == first["job_name"]
        assert again["metrics"] == first["metrics"]
        assert again["seconds"] < first["seconds"] / 3

    def test_without_the_limit_the_same_candidate_becomes_live(self, rolled_back: Ran) -> None:
        rollout = rolled_back.record("rollout-again.json")
        assert rollout["state"] == "PROMOTED"
        assert [step["weight"] for step in rollout["steps"]] == [10, 50, 100]
        assert rollout["steps"][-1]["traffic_read_back"] == {"green": 100}
        assert all(step["errors"]["green"] == 0 for step in rollout["steps"])

    def test_nothing_tried_to_leave_the_machine(self, rolled_back: Ran) -> None:
        assert refusals(rolled_back) == []


class TestRefused:
    def test_the_train_ends_with_code_1(self, refused: Ran) -> None:
        assert refused.code == 1

    def test_the_gate_refused_and_no_traffic_moved(self, refused: Ran) -> None:
        summary = refused.record("summary.json")
        assert summary["verdict"] == "fail"
        assert summary["traffic"] == {"blue": 100, "green": 0}
        assert summary["writes"] == []
        assert not (refused.out / "rollout.json").exists()

    def test_the_page_is_drawn_all_the_same(self, refused: Ran) -> None:
        assert "<svg" in (refused.out / "report" / "index.html").read_text(encoding="utf-8")

    def test_nothing_tried_to_leave_the_machine(self, refused: Ran) -> None:
        assert refusals(refused) == []


def refusals(ran: Ran) -> list[str]:
    """Every address that the proxy refused during a run; the file must be where we look, or the test proves nothing."""
    assert list(ran.home.rglob("requests.jsonl")), "no request log: was it a run of the local Azure ML?"
    return [line for path in ran.home.rglob("refused.jsonl") for line in path.read_text().splitlines()]
