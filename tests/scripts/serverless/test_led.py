"""What makes a rollout of an application that is led somewhere: who is asked, in which steps, and how often."""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scripts import sample_requests
from scripts.endpoint import Answer, Requests
from scripts.errors import AzureFailed, InvalidInput
from scripts.rollout import policy as policies
from scripts.rollout.effects import Sample, Wait
from scripts.rollout.evidence import Count, Evidence, Sides
from scripts.rollout.stages import more
from scripts.rollout.state import Phase, RolloutState
from scripts.serverless import endpoints, led
from scripts.serverless.led import Led, SideBySide
from scripts.settings import Settings
from tests.scripts.rollout.states import rollout_state

SETTINGS = cast(Settings, SimpleNamespace(endpoint="tickets"))
NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
PRODUCTION = policies.load(policies.DEFAULT)


class Side:
    """An endpoint that remembers what it was asked; `deployment` is nobody's there."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ask(self, body: Mapping[str, Any], deployment: str | None = None) -> tuple[Answer, str]:
        assert deployment is None
        self.asked.append(body["messages"])
        return Answer("", 200, 1.0), "hello"


def test_each_conversation_goes_to_either_side_once_in_a_round() -> None:
    sides = {"old": Side(), "new": Side()}
    asking = SideBySide(cast(Mapping[str, Requests], sides))
    sample = Led.evidence(cast(Led, None), [{"messages": number} for number in range(20)])
    answers = sample_requests.send(asking, sample)
    assert Counter(answer.deployment for answer in answers) == {"old": 20, "new": 20}
    assert sorted(sides["old"].asked) == sorted(sides["new"].asked) == list(range(20))
    assert asking.ask(sample[0], "new")[0].deployment == "new"
    with pytest.raises(InvalidInput, match="neither side"):
        asking.ask(sample[0], "blue")
    alone = SideBySide(cast(Mapping[str, Requests], {"new": Side()}))
    assert {answer.deployment for answer in sample_requests.send(alone, sample)} == {"new"}


def test_productions_policy_as_it_is_carried_out_here() -> None:
    rules = Led.rules(cast(Led, None), PRODUCTION)
    assert (rules.steps, rules.evidence, rules.shadow.percent) == ([0, 100], "sample", 0)
    assert (rules.bake.minutes, rules.bake.post_minutes) == (0, PRODUCTION.bake.post_minutes)
    assert (rules.harm, rules.hard, rules.safety, rules.bad_below) == (
        PRODUCTION.harm,
        PRODUCTION.hard,
        PRODUCTION.safety,
        PRODUCTION.bad_below,
    )


def state(good: int) -> RolloutState:
    seen = Sides(candidate=Count(requests=good), stable=Count(requests=good))
    graded = Evidence().safety.model_copy(update={"sides": seen})
    evidence = Evidence(here=seen, whole=seen, safety=graded)
    return rollout_state(Phase.POST_BAKE, NOW, plan=led.STEPS, step=1, evidence=evidence, standing={"new": 100})


def test_with_enough_seen_the_looks_that_are_left_are_spread_over_the_bake() -> None:
    rules = Led.rules(cast(Led, None), PRODUCTION)
    at_once, spread = (more(state(good), NOW, rules) for good in (12, 100))
    assert [type(each) for each in at_once if isinstance(each, Sample | Wait)] == [Sample]
    [pause] = [each for each in spread if isinstance(each, Wait)]
    looks = rules.sample.max_per_step / rules.sample.per_look
    assert pause.seconds == 60 * rules.bake.post_minutes / looks == 150


@pytest.mark.parametrize(
    ("status", "endpoint", "told"),
    [(403, False, False), (403, True, True), (500, False, True), (None, False, True)],
)
def test_who_may_not_read_the_record_is_told_unless_there_is_nothing_to_lead_to(
    status: int | None, endpoint: bool, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training's identity reads no blobs; a failure that is none of rights never counts as nothing."""
    front = Led.__new__(Led)
    front._settings, front._ml, front._blob = SETTINGS, cast(Any, None), cast(Any, None)

    def refuse(_: Any) -> Any:
        raise AzureFailed("Reading tickets.json failed.") from Refusal(status)

    monkeypatch.setattr(led, "read", refuse)
    monkeypatch.setattr(endpoints, "ours", lambda *_: {"tickets-01234567": None} if endpoint else {})
    with pytest.raises(AzureFailed) if told else nullcontext():
        assert front.record() is None


class Refusal(Exception):
    def __init__(self, status: int | None) -> None:
        self.status_code = status


def test_what_is_a_serverless_endpoints_name() -> None:
    name = endpoints.name_of(SETTINGS, "0123456789abcdef")
    assert name == "tickets-01234567"
    assert endpoints.is_name(SETTINGS, name)
    assert not any(endpoints.is_name(SETTINGS, each) for each in ("blue", "tickets", "tickets-green", f"x{name}"))


def test_a_state_is_told_as_the_rollout_knows_it() -> None:
    found = SimpleNamespace(provisioning_state="succeeded", model_id="azureml://m", tags=None)
    assert led.serving(found).provisioning_state == "Succeeded"
    found.provisioning_state = "failed"
    assert led.serving(found).provisioning_state == "Failed"
