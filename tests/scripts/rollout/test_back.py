"""`rollback`, `abort`, `watchdog`, `status`: while no rollout has run, runs, or has ended."""

import pytest

from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.records import Rollout
from scripts.rollout.state import Phase
from scripts.rollout.status import drawn, status
from tests.scripts.rollout.world import Crash, World, baking, crash, judged, rollback, run, watchdog


def dead() -> World:
    world = World()
    with pytest.raises(Crash):
        run(world.actor({baking(): crash}))
    assert world.weights == {"blue": 90, "green": 10}
    return world


def promoted() -> World:
    world = World()
    run(world.actor())
    return world


def test_a_promoted_rollout_goes_back_to_what_was_stable_before() -> None:
    world = promoted()
    done = rollback(world.actor())
    assert (done.to, done.was, done.traffic) == ("blue", {"green": 100}, {"blue": 100})
    assert (world.weights, world.state.phase, world.state.epoch) == ({"blue": 100}, Phase.ROLLED_BACK, 2)
    assert (world.state.reason, done.reason, done.state_kept) == ("because", "because", True)


@pytest.mark.parametrize("change", ["replaced", "gone"])
def test_but_not_to_a_colour_that_is_no_longer_what_it_was(change: str) -> None:
    world = promoted()
    if change == "gone":
        del world.models["blue"]
    else:
        world.models["blue"] = "n" * 64
    held = world.held
    with pytest.raises(Refused, match="--to"):
        rollback(world.actor())
    assert (world.weights, world.held) == ({"green": 100}, held)


def test_a_person_may_insist() -> None:
    world = promoted()
    world.models["blue"] = "n" * 64
    assert rollback(world.actor(), "blue").traffic == {"blue": 100}


def test_a_first_release_has_nothing_before_it() -> None:
    world = World({})
    run(world.actor(), judged(baseline_model=None))
    with pytest.raises(Refused, match="first release"):
        rollback(world.actor())
    assert world.weights == {"green": 100}


def test_without_a_rollout_the_colour_must_be_named() -> None:
    world = World({"green": 100})
    with pytest.raises(InvalidInput, match="--to"):
        rollback(world.actor())
    assert world.written == []
    done = rollback(world.actor(), "blue")
    assert (world.weights, done.state_kept, world.state.candidate) == ({"blue": 100}, True, "")
    assert watchdog(world.actor()).action == "none"
    after = run(world.actor())
    assert isinstance(after, Rollout)
    assert (after.state, after.epoch) == ("PROMOTED", 2)


def test_a_colour_that_is_not_deployed_changes_nothing() -> None:
    world = dead()
    held = world.held
    with pytest.raises(InvalidInput, match=r"no deployment red: choose one of \['blue', 'green'\]"):
        rollback(world.actor(), "red")
    assert (world.weights, world.held) == ({"blue": 90, "green": 10}, held)


def test_abort_is_for_a_rollout_under_way() -> None:
    for world in (World(), promoted()):
        written = world.written
        with pytest.raises(Refused, match="No rollout"):
            rollback(world.actor(), abort=True)
        assert world.written == written
    world = dead()
    assert rollback(world.actor(), abort=True).traffic == {"blue": 100}
    with pytest.raises(Refused, match="--again"):
        run(world.actor())


def test_storage_that_is_down_does_not_stop_a_rollback_that_names_its_colour() -> None:
    world = dead()
    actor = world.actor()
    actor.store_down = True
    with pytest.raises(AzureFailed, match="--to"):
        rollback(actor)
    assert world.weights == {"blue": 90, "green": 10}
    done = rollback(actor, "blue")
    assert (world.weights, done.state_kept, done.epoch) == ({"blue": 100}, False, None)


def test_azure_that_refuses_a_few_times_is_asked_again_and_one_that_always_does_is_said() -> None:
    world = dead()
    actor = world.actor()
    actor.fail_puts = frozenset({1, 2, 3})
    assert rollback(actor).traffic == {"blue": 100}
    world = dead()
    actor = world.actor()
    actor.fail_puts = frozenset(range(1, 50))
    with pytest.raises(AzureFailed):
        rollback(actor)
    assert world.state.phase is Phase.ROLLING_BACK  # so the watchdog goes on with it
    assert watchdog(world.actor()).action == "taken-back"
    assert world.weights == {"blue": 100}


def test_a_candidate_that_was_deleted_does_not_stop_a_rollback() -> None:
    world = dead()
    del world.models["green"]
    assert rollback(world.actor()).traffic == {"blue": 100}


def test_a_write_that_lands_after_the_rollback_is_undone_by_its_second_look() -> None:
    world = dead()
    actor = world.actor()
    late = 7  # after the weights were written and read back
    actor.hooks = {late: lambda: setattr(world, "weights", {"blue": 50, "green": 50})}
    done = rollback(actor)
    assert (done.traffic, world.weights) == ({"blue": 100}, {"blue": 100})

    assert actor.puts == 2


def test_the_state_is_written_before_the_weights() -> None:
    world = dead()
    start = len(world.events)
    rollback(world.actor())
    kinds = [event.kind for event in world.events[start:]]
    assert kinds.index("write") < kinds.index("put")


def test_a_model_that_changed_under_a_dead_rollout_goes_back() -> None:
    world = dead()
    world.models["green"] = "n" * 64
    done = run(world.actor())
    assert isinstance(done, Rollout)
    assert (done.state, world.weights) == ("ROLLED_BACK", {"blue": 100})
    assert "another model" in done.reason


def test_the_watchdog_asks_when_nothing_says_what_is_right() -> None:
    world = World({"blue": 50, "green": 50})
    with pytest.raises(Refused, match="rollback --to COLOUR"):
        watchdog(world.actor())
    assert (world.written, world.held) == ([], None)
    world.tags = {"stable": "blue"}
    assert watchdog(world.actor()).action == "taken-back"
    assert world.weights == {"blue": 100}


def test_a_takeover_while_the_watchdog_looked_saves_the_rollout() -> None:
    """It judged a dead runner; before it wrote, another one resumed: judged again, all is well."""
    world = dead()

    def resumed() -> None:
        run(world.actor())

    done = watchdog(world.actor({2: resumed}))
    assert (done.action, world.weights) == ("none", {"green": 100})


def test_status_says_what_it_waits_for() -> None:
    none = World().actor()
    assert status(none.endpoint, none.store).phase is None
    dead_one = dead().actor()
    said = status(dead_one.endpoint, dead_one.store)
    assert (said.live, said.phase, said.step, said.weight) == ({"blue": 90, "green": 10}, Phase.BAKE, "1 of 3", 10)
    assert said.waits_for == "enough answers of green at 10%"
    assert said.heartbeat_seconds is not None
    colours = drawn(said)
    assert [row[0] for row in colours] == ["blue (stable)", "green (candidate)"]
    assert colours[1][1].count("█") == 2
    assert colours[1][1].endswith(" 10 %")
    done = promoted().actor()
    assert status(done.endpoint, done.store).waits_for.startswith("nothing")
