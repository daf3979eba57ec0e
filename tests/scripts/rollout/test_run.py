"""The rollout's executor against an endpoint that fails, drifts and loses requests. (The real endpoint: tests/e2e.)"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.commands.traffic import _finish
from scripts.errors import AzureFailed, InvalidInput, Refused, ScriptError, Undecided
from scripts.records import Rollout
from scripts.rollout.begin import check_verdict, live_colour, only_idle
from scripts.rollout.state import Phase, RolloutState
from tests.scripts.rollout.world import POLICY, World, baking, judged, raises_of, run


def roll(world: World, fail_on: frozenset[int] = frozenset()) -> Rollout:
    actor = world.actor()
    actor.fail_puts = fail_on
    done = run(actor)
    assert isinstance(done, Rollout)
    return done


def test_a_good_candidate_is_promoted_and_every_step_is_kept() -> None:
    world = World()
    done = roll(world)
    assert (done.state, world.weights) == ("PROMOTED", {"green": 100})
    assert [step.weight for step in done.steps] == POLICY.steps
    assert [write.traffic for write in done.writes] == world.written
    assert all(step.requests["green"] >= POLICY.bake.min_requests for step in done.steps)
    assert all(step.decision == "advance" for step in done.steps)
    assert (world.state.phase, world.state.steps, world.state.intent) == (Phase.PROMOTED, done.steps, None)
    assert len(raises_of(world)) == len(POLICY.steps)


def test_the_state_counts_every_request() -> None:
    world = World()
    done = roll(world)
    whole = world.state.evidence.whole
    assert whole.candidate.requests == sum(step.requests["green"] for step in done.steps)
    assert whole.stable.requests == sum(step.requests["blue"] for step in done.steps)
    assert whole.candidate.bad == whole.stable.bad == 0


def test_a_failing_candidate_gives_everything_back() -> None:
    world = World()
    world.errors = 0.4
    done = roll(world)
    assert (done.state, world.weights) == ("ROLLED_BACK", {"blue": 100})
    assert done.steps[-1].errors["green"] > 0
    assert done.steps[-1].decision == "roll back"
    assert world.state.evidence.whole.candidate.bad == sum(step.errors["green"] for step in done.steps)
    assert (world.tags["stable"], world.state.phase) == ("blue", Phase.ROLLED_BACK)


def test_drift_gives_everything_back() -> None:
    world = World()
    actor = world.actor()
    actor.hooks = {baking(): lambda: world.weights.update(blue=50, green=50)}
    done = run(actor)
    assert isinstance(done, Rollout)
    assert (done.state, world.weights) == ("ROLLED_BACK", {"blue": 100})
    assert "drift" in done.reason


def test_when_azure_never_takes_the_weights_the_record_says_stuck_and_the_watchdog_can_go_on() -> None:
    world = World()
    done = roll(world, frozenset(range(2, 50)))
    assert done.state == "ROLLBACK_STUCK"
    assert world.state.phase is Phase.ROLLBACK_STUCK


def test_storage_that_fails_on_the_way_takes_the_traffic_back_all_the_same() -> None:
    world = World()
    actor = world.actor()
    actor.hooks = {baking(): lambda: setattr(actor, "store_down", True)}
    done = run(actor)
    assert isinstance(done, Rollout)
    assert (done.state, world.weights) == ("ROLLED_BACK", {"blue": 100})
    assert "storage account" in done.reason
    assert {"blue": 90, "green": 10} in world.written


def test_a_candidate_that_was_deleted_on_the_way_does_not_stop_the_way_back() -> None:
    world = World()
    actor = world.actor()
    actor.hooks = {baking(): lambda: world.models.pop("green")}
    done = run(actor)
    assert isinstance(done, Rollout)
    assert (done.state, world.weights) == ("ROLLED_BACK", {"blue": 100})


@given(st.frozensets(st.integers(1, 30), max_size=6))
@settings(max_examples=30, deadline=None)
def test_an_answer_of_the_store_that_was_lost_is_not_taken_for_a_takeover(lost: frozenset[int]) -> None:
    world = World()
    actor = world.actor()
    actor.lose_answers = lost
    done = run(actor)
    assert isinstance(done, Rollout)
    assert (done.state, world.state.epoch) == ("PROMOTED", 1)


@settings(max_examples=50, deadline=None)
@given(
    fail_on=st.frozensets(st.integers(1, 6), max_size=3),
    errors=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_whatever_fails_the_endpoint_ends_on_one_colour(fail_on: frozenset[int], errors: float) -> None:
    world = World()
    world.errors = errors
    done = roll(world, fail_on)
    assert world.weights == ({"green": 100} if done.state == "PROMOTED" else {"blue": 100})
    assert all(sum(write.values()) == 100 for write in world.written)


class TestFirstRelease:
    def test_it_is_judged_at_100(self) -> None:
        world = World({})
        done = run(world.actor(), judged(baseline_model=None))
        assert isinstance(done, Rollout)
        assert (done.state, world.weights, done.stable) == ("PROMOTED", {"green": 100}, "")
        assert [step.weight for step in done.steps] == [100]
        assert done.steps[0].requests["green"] >= POLICY.bake.min_requests

    def test_harm_takes_the_traffic_from_everybody(self) -> None:
        world = World({})
        world.errors = 1.0
        done = run(world.actor(), judged(baseline_model=None))
        assert isinstance(done, Rollout)
        assert (done.state, world.weights) == ("ROLLED_BACK", {})
        assert world.written == [{"green": 100}, {}]

    def test_requests_that_nobody_answers_are_the_candidates_failures(self) -> None:
        world = World({})
        world.silent = True
        done = run(world.actor(), judged(baseline_model=None))
        assert isinstance(done, Rollout)
        assert (done.state, world.weights) == ("ROLLED_BACK", {})
        assert world.state.evidence.whole.candidate.requests == 0
        assert "smoke" in done.reason

    def test_another_model_than_the_judged_one_gets_nothing(self) -> None:
        world = World({})
        world.models["green"] = "x" * 64
        with pytest.raises(Refused, match="green runs model"):
            run(world.actor(), judged(baseline_model=None))
        assert (world.written, world.held) == ([], None)

    def test_a_verdict_with_a_baseline_is_no_first_release(self) -> None:
        with pytest.raises(InvalidInput, match="no traffic yet"):
            run(World({}).actor())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"outcome": "fail"}, "no traffic moves"),
        ({"outcome": "inconclusive"}, "no traffic moves"),
        ({"bound": False}, "no model digests"),
        ({"candidate_model": "x" * 64}, "green runs model"),
        ({"baseline_model": "x" * 64}, "blue runs model"),
        ({"baseline_model": None}, "blue runs model"),
    ],
)
def test_a_verdict_on_other_models_moves_nothing(change: dict[str, object], why: str) -> None:
    world = World()
    with pytest.raises(Refused, match=why):
        run(world.actor(), judged(**change))
    assert (world.written, world.held) == ([], None)


def test_a_verdict_on_what_is_deployed_is_taken() -> None:
    check_verdict(judged(), World().actor().endpoint, "blue", "green")


@pytest.mark.parametrize(
    ("traffic", "error"), [({}, InvalidInput), ({"blue": 90, "green": 10}, Refused), ({"blue": 50}, Refused)]
)
def test_a_rollout_starts_only_from_one_live_colour(traffic: dict[str, int], error: type[Exception]) -> None:
    with pytest.raises(error):
        live_colour(traffic)
    assert live_colour({"blue": 100}) == "blue"


def test_the_candidate_is_the_one_idle_colour() -> None:
    assert only_idle(["blue", "green"], {"blue": 100}, "e") == "green"
    for deployed in (["blue"], ["blue", "green", "red"]):
        with pytest.raises(InvalidInput):
            only_idle(deployed, {"blue": 100}, "e")
    done = run(World().actor(), candidate=None)
    assert isinstance(done, Rollout)
    assert done.candidate == "green"


def test_a_promoted_verdict_asked_again_changes_nothing() -> None:
    world = World()
    roll(world)
    before, written = world.held, world.written
    for candidate in ("green", None):
        again = run(world.actor(), candidate=candidate)
        assert isinstance(again, RolloutState)
        assert again.phase is Phase.PROMOTED
    assert (world.held, world.written) == (before, written)


def test_a_verdict_that_was_taken_back_needs_again() -> None:
    world = World()
    world.errors = 1.0
    roll(world)
    world.errors = 0.0
    written = world.written
    with pytest.raises(Refused, match="--again"):
        run(world.actor())
    assert world.written == written
    done = run(world.actor(), again=True)
    assert isinstance(done, Rollout)
    assert (done.state, done.epoch, world.weights) == ("PROMOTED", 2, {"green": 100})


def test_azure_that_fails_before_anything_began_leaves_no_state() -> None:
    world = World()
    actor = world.actor()
    actor.store_down = True
    with pytest.raises(AzureFailed):
        run(actor)
    assert (world.written, world.held) == ([], None)


@pytest.mark.parametrize(
    ("state", "to_the_end", "error"),
    [
        ("PROMOTED", True, None),
        ("BAKE", False, None),  # a tick
        ("SET", True, Undecided),  # its approval grew too old on the way: nobody must take that for a success
        ("HELD", True, Undecided),
        ("AWAIT_APPROVAL", False, Undecided),
        ("ROLLED_BACK", False, Refused),
        ("ROLLBACK_STUCK", True, AzureFailed),
    ],
)
def test_the_exit_code_says_who_has_to_act(
    tmp_path: Path, state: str, to_the_end: bool, error: type[ScriptError] | None
) -> None:
    out = tmp_path / "rollout.json"
    done = roll(World()).model_copy(update={"state": state})
    if error is None:
        _finish(done, out, to_the_end=to_the_end)
    else:
        with pytest.raises(ScriptError) as caught:
            _finish(done, out, to_the_end=to_the_end)
        assert caught.value.exit_code == error.exit_code
    assert f'"state": "{state}"' in out.read_text()
