"""The stages of a rollout on its way forward, each a function of the table at the end."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from scripts.rollout.approval import CLOCKS_DIFFER
from scripts.rollout.effects import Effect, Probe, Sample, Scale, SetTraffic, SmokeTest, Wait
from scripts.rollout.evidence import missing, missing_requests
from scripts.rollout.observation import STANDS, Observation
from scripts.rollout.policy import Policy
from scripts.rollout.state import Phase, RolloutState, all_to
from scripts.rollout.transitions import AT_ONCE, LONG, SHORT, Decision, back, changed, held, minutes

SMOKE_LIMIT = 10  # times the good row that is asked for: then it is neither up nor down
NEXT = Wait(AT_ONCE, "the next look")


def _provisioning(state: RolloutState, seen: Observation, now: datetime, policy: Policy) -> Decision:
    mine = (seen.deployed or {}).get(state.candidate)
    if mine and mine.state == STANDS:
        return changed(state, phase=Phase.SMOKE, since=now), (SmokeTest(policy.smoke_requests),)
    if now - state.since > timedelta(minutes=policy.hard.provisioning_minutes):
        return back(state, f"deployment {state.candidate} did not come up in {minutes(now - state.since)}", now, seen)
    return state, (Wait(SHORT, f"deployment {state.candidate} to come up"),)


def _smoke(state: RolloutState, seen: Observation, now: datetime, policy: Policy) -> Decision:
    tested = state.smoke
    if tested.bad_row >= policy.hard.smoke_failures_in_a_row:
        return back(state, f"{tested.bad_row} smoke requests failed in a row", now, seen)
    if tested.good_row >= policy.smoke_requests:
        shadow = bool(policy.shadow.percent and state.stable)
        return changed(state, phase=Phase.SHADOW if shadow else Phase.AWAIT_APPROVAL, since=now), (NEXT,)
    if tested.sent >= SMOKE_LIMIT * policy.smoke_requests:
        return back(
            state, f"of {tested.sent} smoke requests never {policy.smoke_requests} in a row were good", now, seen
        )
    return state, (SmokeTest(policy.smoke_requests - tested.good_row),)


def _shadow(state: RolloutState, seen: Observation, now: datetime, policy: Policy) -> Decision:
    """The mirror is set, looked at, and taken away: live and mirrored at once is not possible."""
    waited, until = now - state.since, timedelta(minutes=policy.shadow.minutes)
    if not state.mirror:
        if state.evidence.shadowed:
            return changed(state, phase=Phase.AWAIT_APPROVAL, since=now), (NEXT,)
        return _write(state, seen, now, policy, {state.candidate: policy.shadow.percent})
    if waited >= until and state.evidence.here.candidate.requests >= policy.bake.min_requests:
        return _write(state, seen, now, policy, {})
    if waited > until + timedelta(minutes=policy.bake.max_minutes):
        return back(state, "too few mirrored requests to learn from: no evidence is not success", now, seen)
    return state, (Wait(LONG, "mirrored requests"),)


def _await_approval(state: RolloutState, seen: Observation, now: datetime, policy: Policy) -> Decision:
    if lacking := unapproved(state, now, policy):
        if now - state.since > timedelta(hours=policy.approval.wait_hours):
            return back(state, f"nobody approved it in {policy.approval.wait_hours:g} hours", now, seen)
        return state, (Wait(LONG, lacking, person=True),)
    return changed(state, phase=Phase.SET, step=0, since=now), (NEXT,)


def _set(state: RolloutState, seen: Observation, now: datetime, policy: Policy) -> Decision:
    if now - state.since > timedelta(minutes=policy.bake.max_minutes + policy.bake.held_minutes):
        return back(state, f"step {state.step + 1} could not begin in {minutes(now - state.since)}", now, seen)
    return _write(state, seen, now, policy, {})


def _write(state: RolloutState, seen: Observation, now: datetime, policy: Policy, mirror: dict[str, int]) -> Decision:
    """What this stage wants to be in force: said first, then written."""
    wanted = state.split(state.weight) if state.phase is Phase.SET else all_to(state.stable)
    if obstacle := not_ready(state, seen, now, policy):
        return state, obstacle
    return changed(state, intent=wanted, intent_mirror=mirror, tries=1), (SetTraffic(wanted, mirror),)


def not_ready(state: RolloutState, seen: Observation, now: datetime, policy: Policy) -> Sequence[Effect]:
    """What stands between the candidate and more traffic; () when it may have it."""
    deployed = seen.deployed or {}
    mine, other = deployed.get(state.candidate), deployed.get(state.stable)
    if state.stable and (other is None or other.state != STANDS):
        return (Wait(LONG, f"deployment {state.stable} to be whole"),)
    if mine is None or mine.state != STANDS:
        return (Wait(SHORT, f"deployment {state.candidate} to be whole"),)
    share = state.weight if state.phase is not Phase.SHADOW else policy.shadow.percent
    needed = math.ceil(other.instances * share / 100) if other else 1
    if mine.instances < needed:
        return (Scale(state.candidate, needed), Wait(SHORT, f"{needed} instances of {state.candidate}"))
    if state.phase is not Phase.SHADOW and (lacking := unapproved(state, now, policy)):
        return (Wait(LONG, lacking, person=True),)
    return ()


def unapproved(state: RolloutState, now: datetime, policy: Policy) -> str:
    """What is missing of a live approval of exactly this; "" when it is there or none is asked for."""
    given = state.approval
    if not policy.approval.required:
        return ""
    if given is None:
        return "an approval"
    bound = (given.verdict_digest, given.candidate_model, given.policy_digest or state.policy_digest)
    if bound != (state.verdict_digest, state.candidate_model, state.policy_digest):
        return "an approval of this verdict, model and policy"
    age = now - given.approved_at
    if age < -CLOCKS_DIFFER or age > timedelta(hours=policy.approval.max_age_hours):
        return "a fresh approval"
    return ""


def _bake(state: RolloutState, seen: Observation, now: datetime, policy: Policy) -> Decision:
    bake, waited, last = policy.bake, now - state.since, state.step + 1 == len(state.plan)
    lacking = missing(state.evidence, policy)
    least = timedelta(minutes=bake.post_minutes if last else bake.minutes)
    if not lacking and waited >= least:
        return _advanced(state, now, policy, last=last)
    effects = more(state, now, policy)
    if state.held_since is not None:
        if now - state.held_since >= timedelta(minutes=bake.held_minutes):
            return back(state, f"{state.reason}; held for {minutes(now - state.held_since)}", now, seen)
        return state, effects
    spent = policy.evidence == "sample" and not any(isinstance(each, Sample) for each in effects)
    if lacking and (spent or waited > least + timedelta(minutes=bake.max_minutes)):
        return held(state, f"{lacking}: no evidence is not success", now)
    return state, effects


def _advanced(state: RolloutState, now: datetime, policy: Policy, *, last: bool) -> Decision:
    mine = state.evidence.here.candidate
    reason = f"{mine.requests} requests answered at {state.weight}%, {mine.bad} badly, without harm shown"
    state = changed(state, since=now, reason=reason, held_since=None)
    if last:
        until = now + timedelta(hours=policy.retention_hours)
        return changed(state, phase=Phase.PROMOTED, retain_until=until), ()
    return changed(state, phase=Phase.SET, step=state.step + 1), (NEXT,)


def more(state: RolloutState, now: datetime, policy: Policy) -> Sequence[Effect]:
    """How to learn more where it stands."""
    known = state.evidence
    if state.phase not in (Phase.BAKE, Phase.POST_BAKE, Phase.HELD):
        return (Wait(SHORT, "mirrored requests"),)
    probes = _probes(state, now, policy)
    if policy.evidence == "sample":
        left = policy.sample.max_per_step - known.here.candidate.requests - known.here.stable.requests
        if left > 0:
            return (Sample(min(left, policy.sample.per_look)), *probes, *_pause(state, policy))
        return (Wait(SHORT, "a person"),)
    return (*probes, Wait(LONG, f"requests to {state.candidate} at {state.weight} %"))


def _pause(state: RolloutState, policy: Policy) -> Sequence[Effect]:
    """With enough seen, the looks that are left are spread over the time that is left to bake."""
    if missing(state.evidence, policy):
        return ()
    least = policy.bake.post_minutes if state.step + 1 == len(state.plan) else policy.bake.minutes
    looks = max(1, policy.sample.max_per_step // policy.sample.per_look)
    return (Wait(max(SHORT, 60 * least / looks), f"the next look at {state.weight} %"),)


def _probes(state: RolloutState, now: datetime, policy: Policy) -> Sequence[Effect]:
    """Held-out prompts: a few at each look for content safety, more where users send too little.

    Azure counts these requests too, so they come back as everybody's do.
    """
    known = state.evidence
    waited = now - state.since >= timedelta(minutes=policy.bake.minutes)
    idle = waited and state.stable and policy.evidence == "users" and missing_requests(known, policy)
    wanted = max(policy.probes.per_look if idle else 0, policy.safety.pairs_per_look)
    asked = max(known.pairs, known.safety.sides.candidate.requests)  # a first release has answers and no pairs
    pairs = min(wanted, policy.probes.max_pairs - asked)
    return (Probe(pairs),) if pairs > 0 else ()


HANDLERS: dict[Phase, Callable[[RolloutState, Observation, datetime, Policy], Decision]] = {
    Phase.PROVISIONING: _provisioning,
    Phase.SMOKE: _smoke,
    Phase.SHADOW: _shadow,
    Phase.AWAIT_APPROVAL: _await_approval,
    Phase.SET: _set,
    Phase.BAKE: _bake,
    Phase.POST_BAKE: _bake,
    Phase.HELD: _bake,
}
