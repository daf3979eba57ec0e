"""The first release of all: an endpoint without traffic, a candidate without anything to be compared with."""

import json
from collections.abc import Iterator

import pytest

from tests.workflows.act import Act
from tests.workflows.azure import Azure
from tests.workflows.isolation import Isolation
from tests.workflows.releases import APPROVED, ENDPOINT, GREEN, train
from tests.workflows.tiny.states import States

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def releases(
    tmp_path_factory: pytest.TempPathFactory, isolation: Isolation, azure: Azure, states: States
) -> Iterator[Act]:
    """Azure as `provision` leaves it, with the base model registered; nothing is deployed."""
    azure.restore(states.provisioned)
    yield train(tmp_path_factory.mktemp("releases"), isolation, azure, states)
    assert azure.refused() == []


def test_it_is_held_against_the_floors_alone_and_gets_everything_at_once(releases: Act, azure: Azure) -> None:
    assert azure.deployments(ENDPOINT) == {}
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
