"""A release of route `serverless` by the same workflow files: nothing of theirs knows which kind of endpoint it is.

The catalogue's model is live; behind it stands the tiny base model, which the service fine-tunes. Every job signs in
as its environment's own identity. There are no weights: users are led to the candidate all at once, and both are asked
before and after.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.workflows.act import Act
from tests.workflows.azure import Azure
from tests.workflows.isolation import Isolation
from tests.workflows.log import Entry
from tests.workflows.releases import APPROVED, ENDPOINT, GREEN, train
from tests.workflows.tiny import make
from tests.workflows.tiny.states import CONFIG, States

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RECIPE = "serverless_phi4_mini"
PLACE = f"training/recipes/{RECIPE}.yaml"
# The service trains adapters of so small a model: more and longer steps than the catalogue's would need.
HARDER = {"epochs: 2": "epochs: 20", "batch_size_multiplier: 1.0": "batch_size_multiplier: 2.0",
          "learning_rate_multiplier: 1.0": "learning_rate_multiplier: 5.0"}  # fmt: skip


@pytest.fixture(scope="module")
def releases(
    tmp_path_factory: pytest.TempPathFactory, isolation: Isolation, azure: Azure, states: States
) -> Iterator[Act]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMULATOR_SERVICE_MODEL", str(states.base_model))
        azure.restore(states.provisioned)
        act = train(tmp_path_factory.mktemp("releases"), isolation, azure, states)
        text = act.repository.read(PLACE)
        for little, more in HARDER.items():
            assert little in text
            text = text.replace(little, more)
        act.repository.commit({PLACE: text})
        act.variables["RECIPE"] = RECIPE  # type: ignore[index]
        for step in (
            ("serverless", "base", "--recipe", RECIPE, "--out", "out/base.json"),
            ("deploy", "--first", "--model", "out/base.json", "--out", "out/first.json"),
        ):
            azure.scripts(*step, cwd=act.repository.path, env=CONFIG)
        yield act
    assert azure.refused() == []


def led(releases: Act, azure: Azure) -> dict[str, Any]:
    """Where users are led now."""
    azure.scripts("live", "--out", "out/live.json", cwd=releases.repository.path, env=CONFIG)
    return dict(json.loads((releases.repository.path / "out/live.json").read_text()))


def test_killed_when_users_are_led_to_the_candidate_and_live_all_the_same(releases: Act, azure: Azure) -> None:
    before, asked = led(releases, azure), len(azure.requests())

    def moved(entry: Entry) -> bool:
        return f"{ENDPOINT}-" in entry.get("msg", "") and " 100% " in entry["msg"]

    first = releases.run("push", "release.yml", gh=APPROVED, kill=moved)
    assert first.killed, str(first)
    assert first.outputs["judge/judge", "gate", "outcome"] == "pass"
    candidate, meanwhile = first.outputs["judge/judge", "deploy", "candidate"], led(releases, azure)
    assert meanwhile["scoring_uri"].startswith(f"https://{candidate}.")
    assert meanwhile["stable"] == before["stable"] != candidate  # nobody has settled it: that is the way back
    again = releases.run("push", "release.yml", gh=APPROVED)
    assert again.results == GREEN, str(again)
    assert ("judge/judge", "evaluate-candidate") not in again.steps
    rollout = json.loads((again.artifacts / "rollout" / "rollout.json").read_text())
    assert (rollout["state"], rollout["approved_by"]) == ("PROMOTED", "rosa")
    assert (rollout["stable"], rollout["candidate"]) == (before["stable"], candidate)
    assert [step["weight"] for step in rollout["steps"]] == [0, 100]
    after = led(releases, azure)
    assert (after["stable"], after["model"]["lineage"]["route"]) == (candidate, "serverless")
    assert len(azure.jobs()) == 1
    assert azure.deployments(ENDPOINT) == {}
    own = {azure.identity(f"id-github-{name}")["clientId"] for name in ("training", "staging", "production")}
    managed = {each["client"] for each in azure.requests()[asked:] if each["host"] == "management.azure.com"} - {None}
    assert own <= managed, "each came as itself"


def test_the_watchdog_finds_nothing_to_do_and_the_brake_leads_back(releases: Act, azure: Azure) -> None:
    candidate = led(releases, azure)["stable"]
    done = releases.run("schedule", "watchdog.yml")
    assert (done.results, done.outputs["watch", "watch", "action"]) == ({"watch": "success"}, "none"), str(done)
    assert led(releases, azure)["stable"] == candidate
    done = releases.run("workflow_dispatch", "rollback.yml", inputs={"endpoint": ENDPOINT, "reason": "slow answers"})
    assert done.results == {"rollback": "success"}, str(done)
    back = led(releases, azure)
    assert (back["model"]["name"], back["stable"] == candidate) == ("Phi-4-mini-instruct", False)
    assert "slow answers" in done.summaries["rollback"]


def test_a_candidate_that_got_worse_is_refused(releases: Act, azure: Azure) -> None:
    """Held-out prompts whose right answers are the wrong ones: it is judged anew and not approved."""
    before = led(releases, azure)["stable"]
    wrong = make.jsonl([make.row(number, swapped=True) for number in range(2000, 2000 + make.HELD_OUT_ROWS)])
    releases.repository.commit({"data/heldout.jsonl": wrong, "eval/policy.yaml": make.judging(seed=1)})
    done = releases.run("push", "release.yml", gh=APPROVED)
    assert done.outputs["judge/judge", "gate", "outcome"] == "fail"
    assert (done.code, done.results["refuse"]) == (1, "failure"), str(done)
    assert led(releases, azure)["stable"] == before
