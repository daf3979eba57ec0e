"""What is refused before anything has a state, and what may not be deployed over."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from scripts import records, room
from scripts.deploy import needed_by
from scripts.errors import Refused
from scripts.rollout.preflight import fresh, roomy
from scripts.rollout.state import Phase, RolloutState
from tests.scripts.rollout.test_resume import at
from tests.scripts.rollout.world import POLICY, World, judged, run

NOW = records.now()


@pytest.mark.parametrize("colour", ["blue", "green"])
@pytest.mark.parametrize("state", ["Failed", "Updating", "Creating"])
def test_a_colour_that_is_not_whole_begins_no_rollout(colour: str, state: str) -> None:
    world = World()
    world.health[colour] = state
    with pytest.raises(Refused, match=f"Deployment {colour} is {state}"):
        run(world.actor())
    assert (world.written, world.held) == ([], None)


def test_an_old_verdict_begins_no_rollout() -> None:
    old = judged(created_at=(NOW - timedelta(hours=337)).isoformat())
    world = World()
    with pytest.raises(Refused, match="older than 336 hours"):
        run(world.actor(), old)
    assert (world.written, world.held) == ([], None)
    fresh(judged(created_at=(NOW - timedelta(hours=335)).isoformat()), POLICY, NOW)


def test_the_candidate_gets_as_many_instances_as_its_weight_needs_before_it_has_it() -> None:
    world = World()
    world.instances["blue"] = 4
    grown: list[tuple[int, int]] = []
    actor = world.actor()
    scale, put = actor.scale, actor.set_traffic

    def watched(weights: dict[str, int], *rest: object) -> dict[str, int]:
        grown.append((weights.get("green", 0), world.instances["green"]))
        return put(weights, *rest)  # type: ignore[arg-type]

    actor.set_traffic = watched  # type: ignore[method-assign,assignment]
    actor.scale = scale  # type: ignore[method-assign]
    run(actor)
    assert grown == [(10, 1), (50, 2), (100, 4)]
    assert world.instances["blue"] == 4


@pytest.mark.parametrize(("stable", "candidate", "asked"), [(4, 1, [(4, 1)]), (2, 2, []), (1, 3, [])])
def test_room_is_asked_for_what_the_candidate_will_grow_to(
    stable: int, candidate: int, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What room.check says of it is shown with a real quota in tests/scripts/test_doctor.py."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(room, "check", lambda *given: found.append(given[3:]))
    sizes = {"blue": stable, "green": candidate}
    deployed = {name: SimpleNamespace(instance_type="Standard_E4s_v3", instance_count=n) for name, n in sizes.items()}
    roomy(None, SimpleNamespace(deployments=lambda: deployed), "blue", "green")  # type: ignore[arg-type]
    assert found == asked


def promoted(hours: float) -> RolloutState:
    return at(Phase.PROMOTED, since=NOW, retain_until=NOW + timedelta(hours=hours))


@pytest.mark.parametrize(
    ("found", "colour", "why"),
    [
        (None, "blue", ""),
        (promoted(24), "blue", "way back"),
        (promoted(-0.1), "blue", ""),
        (promoted(24), "red", ""),
        (at(Phase.AWAIT_APPROVAL), "green", "under way"),
        (at(Phase.BAKE), "blue", "under way"),
        (at(Phase.ROLLED_BACK), "green", ""),
    ],
)
def test_what_may_not_be_deployed_over(found: RolloutState | None, colour: str, why: str) -> None:
    said = needed_by(found, colour, NOW)
    assert (why in said) if why else said == ""


def test_a_person_may_give_up_the_way_back_but_no_rollout_under_way() -> None:
    assert needed_by(promoted(24), "blue", NOW, over_way_back=True) == ""
    assert needed_by(at(Phase.BAKE), "blue", NOW, over_way_back=True) != ""


def test_a_promotion_says_until_when_the_way_back_is_kept() -> None:
    world = World()
    run(world.actor())
    assert world.state.retain_until is not None
    assert world.state.retain_until - world.state.since == timedelta(hours=POLICY.retention_hours)
