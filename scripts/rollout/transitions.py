"""The moves that every part of the decision makes: changed, back, held."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from scripts.rollout.effects import Effect, Page, SetTraffic, Wait
from scripts.rollout.observation import Observation
from scripts.rollout.state import Phase, RolloutState, Weights, all_to

Decision = tuple[RolloutState, Sequence[Effect]]
AT_ONCE, SHORT, LONG = 0.0, 5.0, 60.0  # seconds until the next look: now, at something in motion, at something slow


def changed(state: RolloutState, **changes: object) -> RolloutState:
    return state.model_copy(update=changes)


def minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:.0f} minutes"


def back(state: RolloutState, reason: str, now: datetime, seen: Observation | None = None) -> Decision:
    """Everything to the stable colour; legal from every state that has not ended."""
    state = changed(state, phase=Phase.ROLLING_BACK, since=now, reason=reason, tries=0, held_since=None)
    home: tuple[Weights, Weights] = (all_to(state.stable), {})
    there = seen is not None and (seen.weights, seen.mirror) == home
    if there and state.intent is None and (state.standing, state.mirror) == home:
        return changed(state, phase=Phase.ROLLED_BACK), ()  # nothing was given away, so there is nothing to write
    return writing_back(state)


def writing_back(state: RolloutState) -> Decision:
    # Azure refuses a map that names a deployment which is gone, so later tries leave the candidate out.
    wanted = all_to(state.stable) if state.tries or not state.candidate else state.split(0)
    return changed(state, intent=wanted, intent_mirror={}, tries=state.tries + 1), (SetTraffic(wanted, {}),)


def held(state: RolloutState, why: str, now: datetime) -> Decision:
    """Traffic stays as it is and a person is called."""
    text = f"The rollout of {state.candidate} is held at {state.weight} %: {why}"
    state = changed(state, phase=Phase.HELD, held_since=now, reason=why)
    return state, (Page(text), Wait(SHORT, "a person, or more evidence"))
