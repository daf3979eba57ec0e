"""The first release of all: an endpoint without traffic, a candidate without anything to be compared with.

Every job signs in as the identity that `provision` made for its GitHub environment, with the roles it has in the data
and no more; the training job and the endpoint have identities of their own. Without one role it stops and says which.
"""

import json
from collections.abc import Iterator

import pytest

from tests.workflows.act import Act
from tests.workflows.azure import Azure
from tests.workflows.isolation import Isolation
from tests.workflows.releases import APPROVED, ENDPOINT, GREEN, train
from tests.workflows.tiny.states import States

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MANAGEMENT, BLOBS = "management.azure.com", ".blob.core.windows.net"


@pytest.fixture(scope="module")
def releases(
    tmp_path_factory: pytest.TempPathFactory, isolation: Isolation, azure: Azure, states: States
) -> Iterator[Act]:
    """Azure as `provision` leaves it, with the base model registered; nothing is deployed."""
    azure.restore(states.provisioned)
    yield train(tmp_path_factory.mktemp("releases"), isolation, azure, states)
    assert azure.refused() == []


def test_without_one_role_it_stops_where_that_is_needed_and_says_which(releases: Act, azure: Azure) -> None:
    with azure.without("AzureML Data Scientist", azure.identity("id-github-training")):
        done = releases.run("push", "release.yml", gh=APPROVED)
    assert done.results == {"plan": "success", "train/train": "failure"}, str(done)
    assert "lacks the role AzureML Data Scientist on the workspace" in done.errors[-1], done.errors
    assert "an Owner runs `python -m scripts provision --repository OWNER/NAME`" in done.errors[-1]
    assert done.errors[-1] in done.summaries["train/train"]
    assert azure.jobs() == {}


def test_it_is_held_against_the_floors_alone_and_gets_everything_at_once(releases: Act, azure: Azure) -> None:
    assert azure.deployments(ENDPOINT) == {}
    before = len(azure.requests())
    done = releases.run("push", "release.yml", gh=APPROVED)
    assert done.results == GREEN, str(done)
    assert not (done.artifacts / "decision" / "scores" / "stable.jsonl").exists()
    verdict = json.loads((done.artifacts / "decision" / "verdict.json").read_text())
    assert (verdict["outcome"], verdict["baseline_model"]) == ("pass", None)
    assert "the floor is" in verdict["reason"]
    assert verdict["reason"] in done.summaries["judge/judge"]
    assert set(azure.deployments(ENDPOINT)) == {"blue"}
    assert azure.traffic(ENDPOINT) == {"blue": 100}
    rollout = json.loads((done.artifacts / "rollout" / "rollout.json").read_text())
    assert (rollout["state"], rollout["stable"], rollout["approved_by"]) == ("PROMOTED", "", "rosa")
    assert [write["traffic"] for write in rollout["writes"]] == [{"blue": 100}]
    asked = azure.requests()[before:]
    own = {azure.identity(f"id-github-{name}")["clientId"] for name in ("training", "staging", "production")}
    managed, blobs = (
        {each["client"] for each in asked if each["host"].endswith(host)} - {None} for host in (MANAGEMENT, BLOBS)
    )
    assert managed == own, "nobody came as the owner of all"
    assert blobs, "whoever asks for blobs is known"
    assert blobs <= own
