"""What is done with a state and weights that were found: the table, and what holds for every state."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.rollout.resume import Asked, Move, plan
from scripts.rollout.state import TERMINAL, Phase, RolloutState
from scripts.rollout.watch import Seen, Verb, decide
from scripts.rollout.words import TAG_LENGTH, one_line, whole

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
ASKED = Asked("v" * 64, "green")
BEFORE, NEXT, ELSE, STABLE = (
    {"blue": 90, "green": 10},
    {"blue": 50, "green": 50},
    {"blue": 70, "green": 30},
    {"blue": 100},
)
STALE = timedelta(minutes=20)


def at(phase: Phase, **changes: Any) -> RolloutState:
    values: dict[str, Any] = {
        "endpoint": "e",
        "stable": "blue",
        "candidate": "green",
        "verdict_digest": "v" * 64,
        "epoch": 3,
        "runner": "somewhere",
        "phase": phase,
        "plan": [10, 50, 100],
        "step": 1,
        "since": NOW,
        "standing": BEFORE,
        "reason": "because",
        "started_at": NOW,
        "updated_at": NOW,
    }
    return RolloutState.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("found", "weights", "move"),
    [
        (None, STABLE, Move.START),
        # It is under way: how far it came is read from the weights by whoever goes on.
        *((at(phase), BEFORE, Move.TAKE_OVER) for phase in Phase if phase not in TERMINAL),
        (at(Phase.SET, intent=NEXT), ELSE, Move.TAKE_OVER),
        (at(Phase.ROLLING_BACK, intent=STABLE), {}, Move.TAKE_OVER),
        # Somebody else's rollout.
        (at(Phase.BAKE, verdict_digest="w" * 64), BEFORE, Move.REFUSE),
        (at(Phase.BAKE, candidate="red"), BEFORE, Move.REFUSE),
        (at(Phase.ROLLING_BACK, verdict_digest="w" * 64), BEFORE, Move.REFUSE),
        # It has ended.
        (at(Phase.PROMOTED), {"green": 100}, Move.DONE),
        (at(Phase.PROMOTED), STABLE, Move.REFUSE),
        (at(Phase.PROMOTED, verdict_digest="w" * 64), {"green": 100}, Move.START),
        (at(Phase.ROLLED_BACK), STABLE, Move.REFUSE),
        (at(Phase.ROLLED_BACK, verdict_digest="w" * 64), STABLE, Move.START),
        (at(Phase.ROLLED_BACK, candidate="", verdict_digest=""), STABLE, Move.START),
    ],
)
def test_what_is_done(found: RolloutState | None, weights: dict[str, int], move: Move) -> None:
    assert plan(found, weights, ASKED, NOW)[0] is move


def test_again_is_for_what_has_ended_and_for_nothing_else() -> None:
    again = Asked(ASKED.verdict_digest, "green", again=True)
    assert plan(at(Phase.ROLLED_BACK), STABLE, again, NOW)[0] is Move.START
    assert plan(at(Phase.SET), BEFORE, again, NOW)[0] is Move.TAKE_OVER
    assert plan(at(Phase.BAKE, candidate="red"), BEFORE, again, NOW)[0] is Move.REFUSE


def test_a_refusal_says_whose_it_is_and_what_to_do() -> None:
    _, why = plan(at(Phase.BAKE, verdict_digest="w" * 64), BEFORE, ASKED, NOW + timedelta(minutes=7))
    assert all(part in why for part in ("somewhere", "7 minutes ago", "rollout abort", "wwwwwwwwwwww"))


colours = st.sampled_from(["blue", "green", "red"])
weights = st.sampled_from([{}, STABLE, {"green": 100}, BEFORE, NEXT, ELSE])
states = st.builds(
    lambda phase, changes: at(phase, **changes),
    st.sampled_from(list(Phase)),
    st.fixed_dictionaries(
        {},
        optional={
            "standing": weights,
            "intent": st.none() | weights,
            "stable": st.sampled_from(["blue", ""]),
            "updated_at": st.sampled_from([NOW, NOW - timedelta(hours=1)]),
        },
    ),
)


@given(states, weights)
def test_a_rollout_under_way_is_never_simply_begun_anew(found: RolloutState, live: dict[str, int]) -> None:
    if found.under_way:
        assert plan(found, live, ASKED, NOW)[0] not in (Move.START, Move.DONE)


@pytest.mark.parametrize(
    ("found", "seen", "verb", "to"),
    [
        (None, Seen(STABLE), Verb.NONE, ""),
        (None, Seen({}), Verb.NONE, ""),
        (None, Seen(BEFORE, "blue"), Verb.TAKE_BACK, "blue"),
        (None, Seen(BEFORE), Verb.ASK, ""),
        (at(Phase.BAKE), Seen(BEFORE), Verb.NONE, ""),
        (at(Phase.BAKE, updated_at=NOW - timedelta(minutes=21)), Seen(BEFORE), Verb.TAKE_BACK, "blue"),
        (at(Phase.SET, updated_at=NOW - timedelta(minutes=21)), Seen(STABLE), Verb.TAKE_BACK, "blue"),
        (at(Phase.ROLLING_BACK, updated_at=NOW - timedelta(minutes=21)), Seen(BEFORE), Verb.TAKE_BACK, "blue"),
        (at(Phase.ROLLED_BACK), Seen(STABLE), Verb.NONE, ""),
        (at(Phase.ROLLED_BACK), Seen(BEFORE), Verb.TAKE_BACK, "blue"),
        (at(Phase.ROLLED_BACK), Seen({"green": 100}), Verb.TAKE_BACK, "blue"),
        (at(Phase.ROLLED_BACK, stable=""), Seen({}), Verb.NONE, ""),
        (at(Phase.ROLLED_BACK, stable=""), Seen({"green": 100}), Verb.TAKE_BACK, ""),
        (at(Phase.ROLLED_BACK, stable=""), Seen({"green": 100}, candidate_as_judged=False), Verb.NONE, ""),
        (at(Phase.ROLLED_BACK, stable=""), Seen({"blue": 100}), Verb.NONE, ""),
        (at(Phase.PROMOTED), Seen({"green": 100}), Verb.NONE, ""),
        (at(Phase.PROMOTED), Seen(STABLE), Verb.NONE, ""),
        (at(Phase.PROMOTED), Seen(NEXT), Verb.TAKE_BACK, "green"),
        (at(Phase.PROMOTED), Seen(NEXT, stable_as_judged=False), Verb.TAKE_BACK, "green"),
        (at(Phase.PROMOTED), Seen(NEXT, candidate_as_judged=False), Verb.TAKE_BACK, "blue"),
        (at(Phase.PROMOTED), Seen(NEXT, stable_as_judged=False, candidate_as_judged=False), Verb.ASK, ""),
    ],
)
def test_what_the_watchdog_does(found: RolloutState | None, seen: Seen, verb: Verb, to: str) -> None:
    decision = decide(found, seen, NOW, STALE)
    assert (decision.verb, decision.to) == (verb, to)
    assert decision.reason


@given(st.none() | states, weights, st.booleans())
def test_the_watchdog_never_leaves_split_traffic_that_nobody_moves(
    found: RolloutState | None, live: dict[str, int], as_judged: bool
) -> None:
    decision = decide(found, Seen(live, "", as_judged, as_judged), NOW, STALE)
    fresh = found is not None and found.under_way and found.silent_for(NOW) <= STALE
    if len(live) > 1 and not fresh:
        assert decision.verb is not Verb.NONE
    if decision.verb is Verb.TAKE_BACK:
        assert found is not None
        assert decision.to == (found.candidate if found.phase is Phase.PROMOTED else found.stable)


@given(st.text())
def test_any_words_become_one_line_that_azure_takes(text: str) -> None:
    line = one_line(text)
    assert len(line) <= TAG_LENGTH
    assert line == " ".join(line.split())
    assert line.isprintable()
    whole(text).encode()


@pytest.mark.parametrize(
    "text", ["a\nb", "\x1b[31mred\x1b[0m", "x" * 10_000, 'say "no"', "\udcff", "\r\n::error::x", ""]
)
def test_words_that_would_break_something_else(text: str) -> None:
    line = one_line(text)
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line.encode()) <= 256


@pytest.mark.parametrize(
    "change", [{"schema_version": 2}, {"extra": 1}, {"epoch": 0}, {"tries": -1}, {"phase": "FLYING"}]
)
def test_a_state_of_another_shape_is_not_read(change: dict[str, object]) -> None:
    document = {**at(Phase.SET).model_dump(mode="json"), **change}
    with pytest.raises(ValueError):
        RolloutState.model_validate(document)
