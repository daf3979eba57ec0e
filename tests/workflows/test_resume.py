"""One release whose runner dies at every step, and that becomes live all the same; nothing is done or paid for twice.

In order: each test goes on where the one before left Azure. A run is killed with SIGKILL, with everything it started,
as a lost runner is; the training job and the servers run on, because they are Azure's.
"""

import json
import sys
import time
from collections.abc import Iterator

import pytest

from tests.workflows.act import Act
from tests.workflows.azure import Azure
from tests.workflows.isolation import Isolation
from tests.workflows.releases import (
    APPROVED,
    ENDPOINT,
    GREEN,
    NOBODY_AT_WORK,
    RUNS,
    TO_THE_VERDICT,
    train,
)
from tests.workflows.tiny import make
from tests.workflows.tiny.states import CONFIG, States

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def releases(
    tmp_path_factory: pytest.TempPathFactory, isolation: Isolation, azure: Azure, states: States
) -> Iterator[Act]:
    azure.restore(states.blue_live)
    act = train(tmp_path_factory.mktemp("releases"), isolation, azure, states)
    act.repository.commit({"data/heldout.jsonl": make.held_out(26)})
    yield act
    assert azure.refused() == []


def verdicts(azure: Azure) -> list[str]:
    return [tags.get("verdict", "") for name, tags in azure.models().items() if name.startswith("tiny-triage:")]


def test_killed_while_the_job_is_submitted_and_nothing_is_submitted_twice(releases: Act, azure: Azure) -> None:
    first = releases.run("push", "release.yml", kill_when=lambda: bool(azure.jobs()))
    assert first.killed
    again = releases.run("push", "release.yml", vars={"WAIT_MINUTES": "0"})
    assert again.results == {"plan": "success", "train/train": "success"}, str(again)
    assert again.code == 0
    [job] = azure.jobs()
    assert again.outputs["train/train", "train", "trained"] == "false"
    assert again.outputs["train/train", "train", "job_name"] == job
    assert job in again.summaries["train/train"]


def test_nothing_is_gone_on_with_while_the_job_runs_or_somebody_is_at_it(releases: Act, azure: Azure) -> None:
    wait_for_the_job(azure)
    run = {"id": 5, "path": ".github/workflows/release.yml", "status": "in_progress"}
    busy = json.dumps({"workflow_runs": [{**run, "head_sha": releases.repository.git("rev-parse", "HEAD")}]})
    done = releases.run("schedule", "resume.yml", gh={f"api --method GET {RUNS}?": busy})
    assert done.results == {"find": "success"}, str(done)
    assert done.outputs["find", "find", "pending"] == "false"
    assert "a run is working on it" in done.summaries["find"]


def test_killed_before_the_model_is_registered(releases: Act, azure: Azure) -> None:
    done = releases.run("schedule", "resume.yml", gh=NOBODY_AT_WORK, kill="release/train/train/register")
    assert done.killed, str(done)
    assert done.outputs["find", "find", "commit"] == releases.repository.git("rev-parse", "HEAD")
    assert verdicts(azure) == []


def test_killed_while_the_candidate_is_deployed(releases: Act, azure: Azure) -> None:
    def deploying() -> bool:
        return "green" in azure.deployments(ENDPOINT)

    done = releases.run("schedule", "resume.yml", gh=NOBODY_AT_WORK, kill_when=deploying)
    assert done.killed, str(done)
    assert verdicts(azure) == [""]
    assert azure.traffic(ENDPOINT) == {"blue": 100}


def test_killed_as_the_evaluation_begins(releases: Act, azure: Azure) -> None:
    kill = "release/judge/judge/evaluate-stable"
    done = releases.run("schedule", "resume.yml", gh=NOBODY_AT_WORK, kill=kill)
    assert done.killed, str(done)
    assert verdicts(azure) == [""]


def test_killed_as_soon_as_the_verdict_is_given(releases: Act, azure: Azure) -> None:
    done = releases.run("schedule", "resume.yml", gh=NOBODY_AT_WORK, kill_when=lambda: verdicts(azure) == ["pass"])
    assert done.killed, str(done)
    after = releases.run("schedule", "resume.yml", gh=NOBODY_AT_WORK)
    assert after.results == {"find": "success"}, str(after)
    assert "judged: pass" in after.summaries["find"]


def test_killed_before_the_approval_is_written_down(releases: Act, azure: Azure) -> None:
    """From here on people run the release again: its verdict is known, and nobody evaluates until it passes."""
    done = releases.run("push", "release.yml", gh=APPROVED, kill="approve/approve")
    assert done.killed, str(done)
    assert done.outputs["judge/judge", "judged", "outcome"] == "pass"
    assert ("judge/judge", "evaluate-candidate") not in done.steps
    assert azure.traffic(ENDPOINT) == {"blue": 100}


def test_killed_with_traffic_on_the_candidate(releases: Act, azure: Azure) -> None:
    done = releases.run("push", "release.yml", gh=APPROVED, kill_when=lambda: "green" in azure.traffic(ENDPOINT))
    assert done.killed, str(done)
    assert azure.traffic(ENDPOINT) == {"blue": 90, "green": 10}


def test_and_becomes_live_all_the_same(releases: Act, azure: Azure) -> None:
    done = releases.run("push", "release.yml", gh=APPROVED)
    assert done.results == GREEN, str(done)
    assert (done.code, done.errors) == (0, [])
    assert azure.traffic(ENDPOINT) == {"green": 100}
    assert set(azure.deployments(ENDPOINT)) == {"blue", "green"}
    assert list(azure.jobs().values()) == ["Completed"]
    assert verdicts(azure) == ["pass"]
    assert done.outputs["rollout/shift", "shift", "state"] == "PROMOTED"
    assert done.outputs["approve", "approve", "approved_by"] == "rosa"
    rollout = json.loads((done.artifacts / "rollout" / "rollout.json").read_text())
    assert (rollout["state"], rollout["approved_by"]) == ("PROMOTED", "rosa")
    assert [write["traffic"]["green"] for write in rollout["writes"]] == [10, 50, 100]
    assert (done.artifacts / "decision" / "report" / "index.html").is_file()
    assert "pass" in done.summaries["judge/judge"].lower()
    assert "PROMOTED" in done.summaries["rollout/shift"]
    assert any("/releases" in word for call in done.gh for word in call)


def test_what_is_live_already_is_not_released_again(releases: Act, azure: Azure) -> None:
    """And above all it is not put on the other colour, which is the way back."""
    before = azure.deployments(ENDPOINT)
    done = releases.run("push", "release.yml", gh=APPROVED)
    assert done.results == TO_THE_VERDICT, str(done)
    assert done.code == 0
    assert done.outputs["judge/judge", "judged", "outcome"] == "live"
    assert azure.traffic(ENDPOINT) == {"green": 100}
    assert azure.deployments(ENDPOINT) == before


def test_a_rollback_goes_to_what_was_live_before(releases: Act, azure: Azure) -> None:
    wrong = releases.run("workflow_dispatch", "rollback.yml", inputs={"endpoint": "tiny", "reason": "x"})
    assert wrong.results == {"rollback": "failure"}
    assert any("tiny-triage" in error and "`endpoint`" in error for error in wrong.errors), wrong.errors
    assert azure.traffic(ENDPOINT) == {"green": 100}
    done = releases.run("workflow_dispatch", "rollback.yml", inputs={"endpoint": ENDPOINT, "reason": "slow answers"})
    assert done.results == {"rollback": "success"}, str(done)
    assert azure.traffic(ENDPOINT) == {"blue": 100}
    assert "slow answers" in done.summaries["rollback"]


def test_traffic_that_nobody_answers_for_is_taken_back(releases: Act, azure: Azure) -> None:
    split = "from pathlib import Path; from scripts import settings; from scripts.endpoint import Endpoint; "
    split += f"Endpoint(settings.load(Path('{make.ENVIRONMENT}'))).set_traffic({{'blue': 60, 'green': 40}})"
    azure.run([sys.executable, "-c", split], releases.repository.path, CONFIG)
    done = releases.run("schedule", "watchdog.yml")
    assert done.results == {"watch": "success"}, str(done)
    assert done.outputs["watch", "watch", "action"] == "taken-back"
    assert azure.traffic(ENDPOINT) == {"blue": 100}


def wait_for_the_job(azure: Azure) -> None:
    deadline = time.monotonic() + 120
    while set(azure.jobs().values()) != {"Completed"} and time.monotonic() < deadline:
        time.sleep(0.1)
