"""Releases that do not become live: refused, undecided, taken back by themselves, taken back by hand.

The schedule has one model trained; every later release attaches to that job, because its inputs are the same. Where the
held-out prompts differ it is judged anew, because a verdict is given once. The release that does become live is in
test_resume.py.
"""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.workflows.act import Act, Result
from tests.workflows.azure import Azure
from tests.workflows.isolation import Isolation
from tests.workflows.releases import APPROVED, ENDPOINT, NOBODY_APPROVED, REVIEW, RUNS, TO_THE_VERDICT, train
from tests.workflows.tiny import make
from tests.workflows.tiny.states import States

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# A rollout that goes on until somebody stops it, well before its own limit does.
ENDLESS = {"min_requests: 12": "min_requests: 100000", "max_per_step: 600": "max_per_step: 1000000"}


@pytest.fixture(scope="module")
def releases(
    tmp_path_factory: pytest.TempPathFactory, isolation: Isolation, azure: Azure, states: States
) -> Iterator[Act]:
    azure.restore(states.blue_live)
    yield train(tmp_path_factory.mktemp("releases"), isolation, azure, states)
    assert azure.refused() == []


def verdict_tags(azure: Azure) -> list[str]:
    return [tags["verdict"] for name, tags in azure.models().items() if name.startswith("tiny-triage:")]


def test_without_a_reason_nothing_is_trained_and_one_sentence_says_why(releases: Act, azure: Azure) -> None:
    done = releases.run("schedule", "retrain.yml")
    assert done.results == {"decide": "success"}, str(done)
    assert done.outputs["decide", "decide", "retrain"] == "false"
    assert done.outputs["decide", "decide", "reason"] in done.summaries["decide"]
    assert azure.jobs() == {}


def test_with_a_reason_the_schedule_releases_up_to_the_approval(releases: Act, azure: Azure) -> None:
    """The live model is too old. Nobody has approved yet: it stops there, with the candidate judged and at 0 %."""
    policy = releases.repository.read("scripts/operate/retrain.yaml")
    eager = policy.replace("max_age_days: 90", "max_age_days: 0.0001")  # nine seconds
    assert eager != policy
    releases.repository.commit({"scripts/operate/retrain.yaml": eager})
    done = releases.run("schedule", "retrain.yml", gh=NOBODY_APPROVED)
    judged = {f"release/{job}": result for job, result in TO_THE_VERDICT.items()}
    assert done.results == {"decide": "success", **judged, "release/approve": "failure"}, str(done)
    assert done.outputs["release/judge/judge", "gate", "outcome"] == "pass"
    assert verdict_tags(azure) == ["pass"]
    assert len(azure.jobs()) == 1
    assert azure.traffic(ENDPOINT) == {"blue": 100}
    assert "green" in azure.deployments(ENDPOINT)
    period = done.outputs["decide", "decide", "period"]
    assert re.fullmatch(r"\d{4}-Q[1-4]", period)


def released(releases: Act, azure: Azure, gh: Mapping[str, str] = APPROVED, **options: Any) -> Result:
    """A release by hand of what the schedule has trained."""
    [job] = azure.jobs()
    period = azure.job_tags(job)["period"]
    return releases.run("workflow_dispatch", "release.yml", gh=gh, inputs={"period": period}, **options)


def another_question(seed: int | None = None) -> dict[str, str]:
    """The gate's policy with another seed: a model that was judged under one policy may be judged under another."""
    return {"eval/policy.yaml": make.judging(**({} if seed is None else {"seed": seed}))}


def test_a_candidate_that_got_worse_is_refused_and_the_run_is_red(releases: Act, azure: Azure) -> None:
    wrong = make.jsonl([make.row(number, swapped=True) for number in range(2000, 2000 + make.HELD_OUT_ROWS)])
    releases.repository.commit({"data/heldout.jsonl": wrong, **another_question(1)})
    done = released(releases, azure)
    assert done.results == {**TO_THE_VERDICT, "refuse": "failure"}, str(done)
    assert done.code == 1
    assert done.outputs["judge/judge", "gate", "outcome"] == "fail"
    assert "Not released." in done.summaries["refuse"]
    assert "exact_match" in done.summaries["refuse"]
    assert "exact_match" in done.summaries["judge/judge"]
    assert azure.traffic(ENDPOINT) == {"blue": 100}
    assert len(azure.jobs()) == 1
    assert verdict_tags(azure) == ["fail"]
    assert not any("release" in call for call in done.gh)


def test_too_few_prompts_decide_nothing_and_that_is_no_success(releases: Act, azure: Azure) -> None:
    releases.repository.commit({"data/heldout.jsonl": make.held_out(12), **another_question(2)})
    done = released(releases, azure)
    assert done.results == {**TO_THE_VERDICT, "refuse": "failure"}, str(done)
    assert done.outputs["judge/judge", "gate", "outcome"] == "inconclusive"
    assert any(error.startswith("The gate says inconclusive") for error in done.errors)
    assert azure.traffic(ENDPOINT) == {"blue": 100}
    assert verdict_tags(azure) == ["inconclusive"]


def test_a_candidate_that_fails_on_live_traffic_comes_back_by_itself(releases: Act, azure: Azure) -> None:
    releases.repository.commit({"data/heldout.jsonl": make.held_out(28), **another_question()})
    done = released(releases, azure, env=make.SMALL_SERVER)
    assert done.outputs["judge/judge", "judged", "outcome"] == "pass"  # as it was judged for the schedule
    expected = {**TO_THE_VERDICT, "approve": "success", "rollout/shift": "failure", "rollout/revert": "success"}
    assert done.results == expected, str(done)
    assert done.code == 1
    assert done.outputs["rollout/shift", "shift", "state"] == "ROLLED_BACK"
    assert done.outputs["rollout/revert", "revert", "action"] == "none"
    rollout = json.loads((done.artifacts / "rollout" / "rollout.json").read_text())
    assert rollout["writes"][0]["traffic"] == {"blue": 90, "green": 10}
    assert rollout["writes"][-1]["traffic"]["blue"] == 100
    assert azure.traffic(ENDPOINT) == {"blue": 100}


def test_the_emergency_brake_works_while_a_release_waits_and_while_it_rolls_out(releases: Act, azure: Azure) -> None:
    policy = endless = releases.repository.read("scripts/rollout/policy_local.yaml")
    for limit, none in ENDLESS.items():
        endless = endless.replace(limit, none)
    assert endless.count("00000") == 2
    held_out = make.held_out(29)
    changed = {"data/heldout.jsonl": held_out, "scripts/rollout/policy_local.yaml": endless, **another_question(3)}
    releases.repository.commit(changed)
    review = releases.state / "review.json"
    pulled: list[Result] = []

    def pull() -> None:
        """Somebody rolls back from another run: as the release waits for its approval, and when it has traffic."""
        brake = replace(releases, state=releases.state / "brake")
        inputs = {"endpoint": ENDPOINT, "reason": 'wrong priorities; $(touch pwned) `id`\n"quoted"'}
        for reached in (review.with_name("review.json.asked").exists, lambda: "green" in azure.traffic(ENDPOINT)):
            while not reached():
                if ended.wait(0.1):
                    return
            pulled.append(brake.run("workflow_dispatch", "rollback.yml", inputs=inputs))
            review.write_text(json.dumps([REVIEW]))  # after the first, somebody approves

    ended = threading.Event()
    puller = threading.Thread(target=pull)
    puller.start()
    try:
        done = released(releases, azure, gh={f"api {RUNS}/": f"@{review}"})
    finally:
        ended.set()
        puller.join()
    releases.repository.commit({"scripts/rollout/policy_local.yaml": policy})
    assert [(run.code, run.results) for run in pulled] == [(0, {"rollback": "success"})] * 2, str(pulled)
    first, second = (json.loads((run.artifacts / "rollback" / "rollback.json").read_text()) for run in pulled)
    assert (first["was"], first["to"]) == ({"blue": 100}, "blue")
    assert second["was"]["green"] > 0
    assert second["to"] == "blue"
    assert "$(touch pwned)" in second["reason"]
    assert done.results["approve"] == "success", str(done)
    assert done.results["rollout/shift"] == "failure", str(done)
    assert done.results["rollout/revert"] == "success", str(done)
    assert "notes" not in done.results
    assert azure.traffic(ENDPOINT) == {"blue": 100}


def test_reap_told_to_removes_what_nobody_needs(releases: Act, azure: Azure) -> None:
    """With no retention at all the candidate at 0 % may go; the live colour never. Without --apply nothing goes."""
    policy = releases.repository.read("scripts/operate/reap.yaml")
    none = policy.replace("retention_hours: 24", "retention_hours: 0.0001")
    none = none.replace("candidate_hours: 72", "candidate_hours: 0.0001")
    releases.repository.commit({"scripts/operate/reap.yaml": none})
    looked = releases.run("schedule", "reap.yml")
    assert looked.outputs["reap", "reap", "found"] == "1", str(looked)
    assert set(azure.deployments(ENDPOINT)) == {"blue", "green"}
    done = releases.run("workflow_dispatch", "reap.yml", inputs={"apply": True})
    assert done.outputs["reap", "reap", "removed"] == "1", str(done)
    assert set(azure.deployments(ENDPOINT)) == {"blue"}
    assert azure.traffic(ENDPOINT) == {"blue": 100}


def test_without_quota_for_the_candidate_the_sentence_says_what_to_ask_for(
    releases: Act, azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure.stop()
    monkeypatch.setenv("EMULATOR_QUOTA", "standardESv3Family=4")
    azure.start()
    done = released(replace(releases, environment=azure.of_jobs()), azure)
    assert done.results == {**TO_THE_VERDICT, "judge/judge": "failure"}, str(done)
    assert "Standard_E4s_v3 needs 8 more vCPUs in eastus2" in done.errors[-1]
    assert "change `serving.instance_type`" in done.errors[-1]
    assert "no quota" in done.summaries["judge/judge"]
    assert azure.traffic(ENDPOINT) == {"blue": 100}
