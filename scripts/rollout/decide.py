"""What a rollout does next: a pure function of what it remembers, what is seen now, and the time. No I/O, no clock.

`step` is asked again and again, by whoever runs the rollout at that moment; between two questions its effects are
carried out. Whatever it means to write it first says in the state (`intent`), and a write counts when it is read back:
so a process may die anywhere, and for the next one nothing is special. See docs/rollout.md for the states.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from scripts.rollout.effects import Page, SetTraffic, Wait
from scripts.rollout.evidence import harmful
from scripts.rollout.observation import MOVES, STANDS, Observation
from scripts.rollout.policy import Policy
from scripts.rollout.stages import HANDLERS, more, not_ready
from scripts.rollout.state import GOING_BACK, TERMINAL, Phase, RolloutState, Weights, all_to, nonzero
from scripts.rollout.transitions import SHORT, Decision, back, changed, held, minutes, writing_back

STALE = timedelta(minutes=2)  # for so long after a write the weights before it may still be read
TRIES = 5  # writes of the same weights


def step(state: RolloutState, seen: Observation, now: datetime, policy: Policy) -> Decision:
    """The next state, and the effects to carry out before asking again. Neither an effect nor a Wait: it has ended."""
    if state.phase in TERMINAL:
        return state, ()
    if state.phase in GOING_BACK:
        return _returning(state, seen, now)
    if seen.blind:  # what an effect of ours came to is known all the same
        return _blind(absorbed(state, replace(seen, batches=()), policy), now, policy)
    return _forward(state, seen, now, policy)


def _forward(state: RolloutState, seen: Observation, now: datetime, policy: Policy) -> Decision:
    state = absorbed(_sighted(state, now), seen, policy)
    latest = seen.batches[-1] if seen.batches else None
    alone = state.standing == all_to(state.candidate)
    if why := _trouble(state, seen, now) or harmful(state.evidence, latest, policy, alone=alone):
        return back(state, why, now, seen)
    if state.intent is not None:
        return _settled(state, state.intent, seen, now, policy)
    if (seen.weights, seen.mirror) != (state.standing, state.mirror):
        return state, (Wait(SHORT, "Azure to say everywhere what it confirmed"),)
    return HANDLERS[state.phase](state, seen, now, policy)


def _returning(state: RolloutState, seen: Observation, now: datetime) -> Decision:
    if state.tries and (seen.weights, seen.mirror) == (all_to(state.stable), {}):
        home = {"standing": all_to(state.stable), "mirror": {}, "intent": None, "intent_mirror": {}}
        return changed(state, phase=Phase.ROLLED_BACK, since=now, tries=0, **home), ()
    stuck = state.tries >= TRIES and state.phase is not Phase.ROLLBACK_STUCK
    if stuck:
        state = changed(state, phase=Phase.ROLLBACK_STUCK, since=now)
    pause = (Wait(SHORT, "Azure to take the weights back"),) if state.tries else ()
    paged = (Page(f"{state.endpoint} does not go back to {state.stable or 'nobody'}: {state.reason}"),) if stuck else ()
    state, effects = writing_back(state)
    return state, (*paged, *effects, *pause)


def _blind(state: RolloutState, now: datetime, policy: Policy) -> Decision:
    """Nothing moves forward without sight; with traffic on the candidate it does not stay for long either."""
    if why := harmful(state.evidence, None, policy):
        return back(state, why, now)
    since = state.blind_since or now
    state = changed(state, blind_since=since)
    dark, limit = now - since, timedelta(minutes=policy.hard.blind_minutes)
    given = (state.standing, state.mirror, state.intent or {}, state.intent_mirror)
    exposed = any(weights.get(state.candidate) for weights in given)
    if exposed and dark >= 2 * limit:
        return back(state, f"nothing could be read from Azure for {minutes(dark)}", now)
    if dark >= limit and state.phase in (Phase.BAKE, Phase.POST_BAKE):
        return held(state, f"nothing can be read from Azure since {since:%H:%M} UTC", now)
    return state, (Wait(SHORT, "Azure to be readable again"),)


def _sighted(state: RolloutState, now: datetime) -> RolloutState:
    """Who was held for blindness goes on; the minutes in the dark do not count as baking."""
    if state.blind_since is None:
        return state
    state = changed(state, blind_since=None)
    if state.phase is not Phase.HELD:
        return state
    last = state.step + 1 == len(state.plan)
    return changed(state, phase=Phase.POST_BAKE if last else Phase.BAKE, since=now, held_since=None)


def _trouble(state: RolloutState, seen: Observation, now: datetime) -> str:
    """What nobody wrote, and a candidate that is not what was judged: reasons to go back at once."""
    here = (seen.weights, seen.mirror)
    known = [(state.standing, state.mirror)]
    if state.intent is not None:
        known.append((nonzero(state.intent), state.intent_mirror))
    late = seen.weights == state.previous and now - state.since <= STALE
    if here not in known and not late:
        return f"the weights read back, {_told(seen.weights, seen.mirror)}, are not what this rollout wrote (drift)"
    mine = (seen.deployed or {}).get(state.candidate)
    if mine is None:
        return f"deployment {state.candidate} is gone" if state.phase is not Phase.PROVISIONING else ""
    if mine.state not in (STANDS, *MOVES):
        return f"deployment {state.candidate} is {mine.state}"
    for name, judged in ((state.candidate, state.candidate_model), (state.stable, state.stable_model)):
        there = (seen.deployed or {}).get(name)
        if there and judged and there.model != judged:
            return f"deployment {name} runs another model than the one that was judged"
    return ""


def _told(weights: Weights | None, mirror: Weights | None) -> str:
    return f"{weights}{f' with mirror {mirror}' if mirror else ''}"


def absorbed(state: RolloutState, seen: Observation, policy: Policy) -> RolloutState:
    """Every batch counts once, whoever brings it how often."""
    known, until = state.evidence, state.seen_until
    for batch in seen.batches or ():
        if until is None or batch.at > until:
            known = known.plus(batch, policy, here=batch.at >= state.since)
            until = batch.at
    if seen.drops:
        known = known.with_pairs(list(seen.drops), policy)
    known = known.with_graded(seen.graded, policy)
    smoke = state.smoke
    for ok in seen.smoke:
        smoke = smoke.plus(ok)
    slow = state.slow_ms if state.slow_ms is not None else seen.slow_ms
    found = {"evidence": known, "seen_until": until, "smoke": smoke, "slow_ms": slow}
    new = {name: value for name, value in found.items() if value is not getattr(state, name)}
    return changed(state, **new) if new else state


def shown(state: RolloutState, policy: Policy) -> bool:
    """Whether what is kept takes the candidate back, so that there is nothing to wait for."""
    return state.phase not in (*TERMINAL, *GOING_BACK) and bool(harmful(state.evidence, None, policy))


def _settled(state: RolloutState, intent: Weights, seen: Observation, now: datetime, policy: Policy) -> Decision:
    """What was meant is in force, or is written once more if it may still be done."""
    if (seen.weights, seen.mirror) == (nonzero(intent), state.intent_mirror):
        return _confirmed(state, intent, now, policy)
    if state.tries >= TRIES:
        return back(state, f"Azure did not take the weights {_told(intent, state.intent_mirror)}", now, seen)
    if obstacle := not_ready(state, seen, now, policy):
        return state, obstacle
    again = SetTraffic(intent, state.intent_mirror)
    return changed(state, tries=state.tries + 1), (again, Wait(SHORT, "Azure to take the weights"))


def _confirmed(state: RolloutState, intent: Weights, now: datetime, policy: Policy) -> Decision:
    phase = state.phase
    if phase is Phase.SET:
        phase = Phase.POST_BAKE if state.step + 1 == len(state.plan) else Phase.BAKE
    state = changed(
        state,
        phase=phase,
        since=now,
        previous=state.standing,
        standing=nonzero(intent),
        mirror=state.intent_mirror,
        intent=None,
        intent_mirror={},
        tries=0,
        evidence=state.evidence.moved(),
    )
    return state, more(state, now, policy)
