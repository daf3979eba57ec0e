"""A rollout survives its runner: it is stopped, and crossed by others, at every effect it has."""

from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scripts.errors import Refused
from scripts.records import Rollout
from scripts.rollout.evidence import Batch, Count, Evidence, Sides, harmful
from scripts.rollout.state import Phase, RolloutState
from scripts.rollout.store import Fenced
from tests.scripts.rollout.test_resume import NOW
from tests.scripts.rollout.world import (
    POLICY,
    Actor,
    Crash,
    World,
    baking,
    crash,
    judged,
    raises_of,
    rollback,
    run,
    watchdog,
)

LIVE = timedelta(hours=1)
SLOW = 200  # more than the effects of a rollout in these tests


@cache
def effects(errors: float, first: bool) -> int:
    """How many effects an undisturbed rollout has."""
    world = new(errors, first)
    actor = world.actor()
    run(actor, verdict(first))
    return actor.effects


def new(errors: float, first: bool = False) -> World:
    world = World({} if first else None)
    world.errors = errors
    return world


def verdict(first: bool) -> object:
    return judged(baseline_model=None) if first else judged()


def attempt(work: Callable[[], object]) -> object:
    """What a process came to: its result, or what ended it."""
    try:
        return work()
    except (Crash, Refused) as error:
        return error


CASES = pytest.mark.parametrize(("errors", "first"), [(0.0, False), (1.0, False), (0.0, True), (1.0, True)])


@CASES
def test_a_runner_that_dies_anywhere_is_resumed_to_the_same_end(errors: float, first: bool) -> None:
    good, stable = errors == 0, {} if first else {"blue": 100}
    for place in range(effects(errors, first)):
        world = new(errors, first)
        died = attempt(lambda world=world, place=place: run(world.actor({place: crash}), verdict(first)))
        assert isinstance(died, Crash)
        again = attempt(lambda world=world: run(world.actor(), verdict(first)))
        assert world.weights == ({"green": 100} if good else stable), place
        assert world.state.phase is (Phase.PROMOTED if good else Phase.ROLLED_BACK)
        assert isinstance(again, Rollout | RolloutState) or (isinstance(again, Refused) and not good)
        assert all(sum(write.values()) == 100 or (first and write == {}) for write in world.written)
        raises_of(world)


@CASES
def test_a_runner_that_dies_anywhere_is_taken_back_by_the_watchdog(errors: float, first: bool) -> None:
    stable = {} if first else {"blue": 100}
    for place in range(effects(errors, first)):
        world = new(errors, first)
        attempt(lambda world=world, place=place: run(world.actor({place: crash}), verdict(first)))
        before = dict(world.weights)
        assert watchdog(world.actor(), LIVE).action == "none" or world.state.phase is Phase.ROLLED_BACK
        done = watchdog(world.actor())
        promoted = world.held is not None and world.state.phase is Phase.PROMOTED
        assert world.weights == ({"green": 100} if promoted else stable), place
        assert promoted or world.held is None or world.state.phase is Phase.ROLLED_BACK
        assert done.action == "taken-back" or world.weights == before
        assert watchdog(world.actor()).action == "none"


@CASES
def test_a_second_crash_while_going_back_is_mended_too(errors: float, first: bool) -> None:
    stable = {} if first else {"blue": 100}
    for place in range(0, effects(errors, first), 3):
        for second in range(9):
            world = new(errors, first)
            attempt(lambda world=world, place=place: run(world.actor({place: crash}), verdict(first)))
            attempt(lambda world=world, second=second: watchdog(world.actor({second: crash})))
            watchdog(world.actor())
            promoted = world.held is not None and world.state.phase is Phase.PROMOTED
            assert world.weights == ({"green": 100} if promoted else stable)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("abort", [False, True])
def test_a_rollback_at_any_moment_of_a_rollout_ends_with_stable(abort: bool, first: bool) -> None:
    stable = {} if first else {"blue": 100}
    crossed = 0
    for place in range(effects(0.0, first)):
        world = new(0.0, first)
        back: list[object] = []

        def cross(world: World = world, back: list[object] = back) -> None:
            if world.held is not None:
                back.append(rollback(world.actor(), abort=abort))

        ended = attempt(lambda world=world, cross=cross, place=place: run(world.actor({place: cross}), verdict(first)))
        if not back:  # before the rollout had a state, or after its last effect
            continue
        crossed += 1
        assert world.weights == stable, place
        assert world.state.phase is Phase.ROLLED_BACK
        assert world.state.epoch == 2
        said = ended.state if isinstance(ended, Rollout) else type(ended).__name__
        # At its last effect it had been promoted and said so before the rollback came.
        assert said in ({"PROMOTED"} if place == effects(0.0, first) - 1 else {"ROLLED_BACK", "Fenced"}), place
        raises_of(world)
    assert crossed >= effects(0.0, first) - 6


def test_a_raise_that_crosses_a_rollback_and_dies_is_found_by_the_watchdog() -> None:
    """The write was checked, then a rollback ran whole, then the write went out, then its runner died."""
    found = 0
    for place in range(effects(0.0, False)):
        world = new(0.0)

        def cross(world: World = world) -> None:
            if world.held is not None:
                rollback(world.actor())

        attempt(lambda world=world, place=place, cross=cross: run(world.actor({place: cross, place + 1: crash})))
        if world.held is None or world.state.phase is not Phase.ROLLED_BACK:
            continue
        strayed = world.weights != {"blue": 100}
        found += strayed
        assert watchdog(world.actor(), LIVE).action == ("taken-back" if strayed else "none")
        assert world.weights == {"blue": 100}
    assert found == len(POLICY.steps)  # exactly the window that Azure leaves open: it has no condition on weights


def test_of_two_runners_only_the_later_one_raises() -> None:
    for place in range(effects(0.0, False)):
        world = new(0.0)
        other: list[object] = []

        def cross(world: World = world, other: list[object] = other) -> None:
            other.append(attempt(lambda: run(world.actor())))

        first = attempt(lambda world=world, place=place, cross=cross: run(world.actor({place: cross})))
        if world.state.phase is Phase.PROMOTED and len(world.weights) == 2:
            # The first one's write was on its way when the second promoted: the watchdog's case.
            assert isinstance(first, Fenced)
            assert watchdog(world.actor(), LIVE).action == "taken-back"
            continue
        assert world.weights in ({"green": 100}, {"blue": 100})
        if world.state.epoch == 2:
            assert isinstance(first, Fenced), place
            assert world.weights == {"green": 100}
            assert raises_of(world)


def test_the_harm_test_goes_on_with_what_dead_runners_saw() -> None:
    """Too few failures for any rule in one life; over two lives the candidate fails more often than stable."""
    world = new(0.0)
    attempt(lambda: run(world.actor({baking(): crash})))
    assert world.state.phase is Phase.BAKE
    assert world.held is not None
    evidence = world.state.evidence
    for minute in range(3):
        sides = Sides(candidate=Count(requests=10, bad=1), stable=Count(requests=100))
        seen = Batch(at=NOW + timedelta(minutes=minute), signals={"error": sides})
        assert not harmful(Evidence().plus(seen, POLICY), seen, POLICY)
        evidence = evidence.plus(seen, POLICY)
    dead = world.actor()
    dead.write(world.state.changed(evidence=evidence), world.held.etag)
    done = run(world.actor())
    assert isinstance(done, Rollout)
    assert (done.state, world.weights) == ("ROLLED_BACK", {"blue": 100})
    assert "e-value" in done.reason


class Processes(RuleBasedStateMachine):
    """Any processes, in any order, stopped or crossed anywhere; then one watchdog that lives."""

    @initialize(errors=st.sampled_from([0.0, 0.0, 0.3, 1.0]), first=st.booleans())
    def begin(self, errors: float, first: bool) -> None:
        self.first = first
        self.world = new(errors, first)

    def actor(self, crashes: int, crossing: int | None, by: str) -> Actor:
        hooks = {crashes: crash}
        if crossing is not None:
            hooks[crossing] = partial(attempt, partial(self.work, by, self.world.actor()))
        return self.world.actor(hooks)

    def work(self, name: str, actor: Actor) -> object:
        if name == "run":
            return run(actor, verdict(self.first), again=True)
        if name == "rollback":
            return rollback(actor, abort=True)
        return watchdog(actor)

    @rule(
        name=st.sampled_from(["run", "run", "rollback", "watchdog"]),
        crashes=st.integers(0, SLOW),
        crossing=st.none() | st.integers(0, SLOW),
        by=st.sampled_from(["run", "rollback", "watchdog"]),
    )
    def process(self, name: str, crashes: int, crossing: int | None, by: str) -> None:
        attempt(lambda: self.work(name, self.actor(crashes, crossing, by)))

    @invariant()
    def every_map_is_whole_and_every_raise_was_allowed(self) -> None:
        if hasattr(self, "world"):
            for write in self.world.written:
                assert sum(write.values()) == 100 or (self.first and write == {})
            raises_of(self.world)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        end = attempt(lambda: watchdog(self.world.actor()))
        stable = {} if self.first else {"blue": 100}
        promoted = self.world.held is not None and self.world.state.phase is Phase.PROMOTED
        if self.first and promoted and len(self.world.weights) != 1:
            assert isinstance(end, Refused)
        else:
            assert self.world.weights == stable or (promoted and self.world.weights == {"green": 100})


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(max_examples=60, stateful_step_count=6, deadline=None)
