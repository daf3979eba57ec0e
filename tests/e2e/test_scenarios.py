"""Two whole releases in one local Azure ML: one is refused, the next comes back by itself (and is then released).

In this order, as a team would live through it, and because the second release then asks the live model nothing again.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.workflows.repository import copy

ROOT = Path(__file__).parents[2]
# Both take some eight minutes on two cores; the first test waits for them.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2700)]
RECIPE, STEPS = "training/recipes/cpu_demo.yaml", ("max_steps: 105", "max_steps: 35")

# The refused release, in a copy of the repository whose recipe trains a third of the steps: enough to learn the form of
# an answer (which a test holds), and no number of steps learns more from shuffled answers. Then the release that comes
# back to blue, from the start: the endpoint is given no traffic, because `deploy --first` is for one without, and what
# was kept of the live model's answers goes along. After it the same training again (it must attach), and the same
# candidate on a server without the short limit (it must become live; at 10 % it needs 12 good answers instead of 18,
# for each of which the other colour gives nine).
RELEASES = """
set -u
(cd "$SHORT" && DEMO_OUT=$OUT/refused bash demo.sh refused); echo $? >"$OUT/refused.code"
.venv/bin/python -c "
from pathlib import Path
from scripts import settings
from scripts.endpoint import Endpoint
Endpoint(settings.load(Path('scripts/environments/demo.yaml'))).set_traffic({})" || exit 9
export DEMO_OUT=$OUT/rollback
# demo.sh begins with an empty folder, and asks the live model minutes after it has provisioned.
(for _ in $(seq 300); do [ -e "$DEMO_OUT/provision.json" ] && break; sleep 1; done
  cp -r "$OUT/refused/scores/.kept" "$DEMO_OUT/scores/") &
bash demo.sh rollback; echo $? >"$OUT/rollback.code"
export MLOPS_CONFIG=scripts/environments/demo.yaml
run=".venv/bin/python -m scripts"
$run train --recipe cpu_demo --dataset "$DEMO_OUT/dataset.json" --base-model "$DEMO_OUT/model-baseline.json" \\
  --out "$DEMO_OUT/training-again.json" || exit 9
$run deploy --deployment green --model "$DEMO_OUT/model.json" --out "$DEMO_OUT/deployment-again.json" || exit 9
sed "s/^bad_below: 0.2$/bad_below: 0.3/" scripts/rollout/policy_local.yaml >"$OUT/policy.yaml"
$run rollout run --again --candidate green --verdict "$DEMO_OUT/verdict.json" --policy "$OUT/policy.yaml" \\
  --out "$DEMO_OUT/rollout-again.json" || exit 9
"""


class Ran(NamedTuple):
    """What one release left in its folder, and how its train ended."""

    out: Path
    code: int

    def record(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.out / name).read_text(encoding="utf-8")))


class Both(NamedTuple):
    home: Path
    code: int
    refused: Ran
    rolled_back: Ran


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Both releases, in a local Azure ML of their own."""
    folder = tmp_path_factory.mktemp("releases")
    out, home = folder / "out", folder / "azure"
    out.mkdir()
    recipe = (ROOT / RECIPE).read_text(encoding="utf-8")
    assert STEPS[0] in recipe
    short = copy(folder / "repository", {RECIPE: recipe.replace(*STEPS)}).path
    for name in (".venv", ".cache"):
        (short / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "run", "--", "bash", "-c", RELEASES],
        cwd=ROOT,
        env={**os.environ, "OUT": str(out), "SHORT": str(short), "EMULATOR_HOME": str(home)},
        check=False,
        stdin=subprocess.DEVNULL,
    )
    refused, rolled_back = (
        Ran(out / name, int((out / f"{name}.code").read_text())) for name in ("refused", "rollback")
    )
    return Both(home, done.returncode, refused, rolled_back)


@pytest.fixture(scope="module")
def rolled_back(both: Both) -> Ran:
    return both.rolled_back


@pytest.fixture(scope="module")
def refused(both: Both) -> Ran:
    return both.refused


def test_everything_around_the_releases_worked(both: Both) -> None:
    assert both.code == 0


def test_nothing_tried_to_leave_the_machine(both: Both) -> None:
    """The file must be where we look, or the test proves nothing."""
    assert list(both.home.rglob("requests.jsonl")), "no request log: was it a run of the local Azure ML?"
    assert [line for path in both.home.rglob("refused.jsonl") for line in path.read_text().splitlines()] == []


def test_make_chat_talks_to_what_the_releases_left(both: Both) -> None:
    """With the local Azure ML started for it, and stopped by the Ctrl-C that ends the page's server."""
    environment = {**os.environ, "EMULATOR_HOME": str(both.home / "run"), "ENDPOINT_SCORING_URI": ""}
    chat = subprocess.Popen(
        ["bash", "chat.sh", "--port", "0"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert chat.stdout
    try:
        said = next((line for line in chat.stdout if "http://127.0.0.1:" in line), "")
        url = next(word for word in said.split() if word.startswith("http://"))
        with (ROOT / "data/tickets.jsonl").open(encoding="utf-8") as tickets:  # one that training has seen
            messages = json.loads(next(tickets))["messages"][:-1]
        reply = httpx.post(f"{url}api/chat", json={"messages": messages}, timeout=120, trust_env=False)
        colours = httpx.get(f"{url}api/settings", trust_env=False).json()["colours"]
    finally:
        os.killpg(chat.pid, signal.SIGINT)
        told, _ = chat.communicate(timeout=90)
    result = json.loads(reply.text.strip().splitlines()[-1].removeprefix("data: "))
    assert (result["status"], result["deployment"]) == ("ok", "green"), result["detail"]
    assert set(json.loads(result["answer"])) == {"category", "priority", "product", "order_id"}
    assert set(colours) == {"blue", "green"} and colours["green"].startswith("ticket-triage:")
    assert chat.returncode == 0 and "Stopped the local Azure ML" in told


class TestRollback:
    def test_the_train_ends_with_code_1(self, rolled_back: Ran) -> None:
        assert rolled_back.code == 1

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
        assert {name: value for name, value in model["lineage"].items() if value} == {
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

    def test_the_live_model_was_asked_once_for_both_releases(self, refused: Ran, rolled_back: Ran) -> None:
        """Its scores are kept with the model: the first release had them made."""
        for name in ("stable", "stable-few-shot"):
            first, second = (ran.record(f"scores/{name}.run.json") for ran in (refused, rolled_back))
            assert first["answer_seconds"] > 0 == second["answer_seconds"]
            assert first["scores_digest"] == second["scores_digest"]


class TestRefused:
    def test_the_train_ends_with_code_1(self, refused: Ran) -> None:
        assert refused.code == 1

    def test_the_gate_refused_and_no_traffic_moved(self, refused: Ran) -> None:
        summary = refused.record("summary.json")
        assert summary["verdict"] == "fail"
        assert summary["traffic"] == {"blue": 100, "green": 0}
        assert summary["writes"] == []
        assert not (refused.out / "rollout.json").exists()

    def test_it_was_refused_for_what_it_says_and_not_for_its_form(self, refused: Ran) -> None:
        loss = [point["loss"] for point in refused.record("training.json")["metrics"]["loss"]]
        assert loss[-1] < loss[0] / 2
        verdict = refused.record("verdict.json")
        metrics = {each["name"]: each for each in verdict["metrics"]}
        assert metrics["json_valid"]["candidate"] >= 0.9
        assert metrics["exact_match"]["outcome"] == "fail"
        assert verdict["reason"].startswith("exact_match")

    def test_the_page_is_drawn_all_the_same(self, refused: Ran) -> None:
        assert "<svg" in (refused.out / "report" / "index.html").read_text(encoding="utf-8")
