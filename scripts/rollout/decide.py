"""What a rollout does next: a pure function of where it is and what its own requests came to. No I/O, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from scripts.rollout.policy import Policy


class Phase(StrEnum):
    SET = "SET"  # the weight of this step is to be written
    BAKE = "BAKE"  # it was read back; requests are being judged
    ROLLING_BACK = "ROLLING_BACK"  # stable is to get everything
    PROMOTED = "PROMOTED"
    ROLLED_BACK = "ROLLED_BACK"


@dataclass(frozen=True)
class Outcome:
    """One request: by which side it was answered, and whether the answer was good."""

    by_candidate: bool
    ok: bool


@dataclass(frozen=True)
class State:
    """`step` indexes the policy's steps; `looks` counts judgements made so far in the whole rollout."""

    phase: Phase = Phase.SET
    step: int = 0
    looks: int = 0
    reason: str = "the candidate passed the gate"


@dataclass(frozen=True)
class Observation:
    """What has been seen: `here` at this weight, `all` since the rollout began (both in order of sending).

    `traffic_confirmed`: the weights read back are the ones this step wants.
    """

    traffic_confirmed: bool
    here: Sequence[Outcome] = ()
    all: Sequence[Outcome] = ()


@dataclass(frozen=True)
class SetCandidate:
    """Give the candidate this weight and stable the rest, read it back."""

    weight: int


@dataclass(frozen=True)
class SendRequests:
    """Gather more evidence at this weight."""

    count: int


Effect = SetCandidate | SendRequests | None


def step(state: State, seen: Observation, policy: Policy) -> tuple[State, Effect]:
    """The next state and the one effect to run before asking again; None when the rollout has ended."""
    match state.phase:
        case Phase.PROMOTED | Phase.ROLLED_BACK:
            return state, None
        case Phase.ROLLING_BACK:
            if seen.traffic_confirmed:
                return replace(state, phase=Phase.ROLLED_BACK), None
            return state, SetCandidate(0)
        case Phase.SET:
            if seen.traffic_confirmed:
                return replace(state, phase=Phase.BAKE), SendRequests(policy.requests_per_look)
            return state, SetCandidate(policy.steps[state.step])
        case Phase.BAKE:
            return _bake(state, seen, policy)


def _bake(state: State, seen: Observation, policy: Policy) -> tuple[State, Effect]:
    if not seen.traffic_confirmed:
        return _back(state, "the weights read back are not the ones this rollout wrote (drift)")
    looked = replace(state, looks=state.looks + 1)
    harm = harm_shown(seen, policy)
    if harm:
        return _back(looked, harm)
    answered = sum(outcome.by_candidate for outcome in seen.here)
    if answered < policy.min_candidate_requests:
        if len(seen.here) >= policy.max_requests_per_step or looked.looks >= policy.max_looks:
            return _back(
                looked,
                f"only {answered} of {len(seen.here)} requests reached the candidate: no evidence is not success",
            )
        return looked, SendRequests(policy.requests_per_look)
    weight = policy.steps[state.step]
    reason = f"{answered} requests answered at {weight}% without harm shown"
    if state.step + 1 == len(policy.steps):
        return replace(looked, phase=Phase.PROMOTED, reason=reason), None
    following = replace(looked, phase=Phase.SET, step=state.step + 1, reason=reason)
    return following, SetCandidate(policy.steps[following.step])


def _back(state: State, reason: str) -> tuple[State, Effect]:
    return replace(state, phase=Phase.ROLLING_BACK, reason=reason), SetCandidate(0)


def harm_shown(seen: Observation, policy: Policy) -> str:
    """Why the candidate is worse than stable, in one sentence; "" when that is not shown.

    Fisher's exact test (one-sided) conditions on the total number of errors, so it needs no error rate to be known.
    """
    mine = [outcome.ok for outcome in seen.here if outcome.by_candidate]
    row = _longest_error_run(mine)
    if row >= policy.max_errors_in_a_row:
        return f"{row} requests to the candidate failed in a row"
    if len(mine) >= policy.min_candidate_requests and mine.count(False) / len(mine) > policy.max_error_rate:
        failed = f"{mine.count(False)} of {len(mine)} requests to the candidate failed"
        return f"{failed} (at most {policy.max_error_rate:.0%} may)"
    p = fisher(seen.all)
    if p < policy.alpha / policy.max_looks:
        return f"the candidate fails more often than stable (one-sided Fisher p = {p:.1g})"
    return ""


def fisher(outcomes: Sequence[Outcome]) -> float:
    """One-sided p-value that the candidate's error rate exceeds stable's; 1.0 when either side has no request."""
    from scipy.stats import fisher_exact

    candidate = [outcome.ok for outcome in outcomes if outcome.by_candidate]
    stable = [outcome.ok for outcome in outcomes if not outcome.by_candidate]
    if not candidate or not stable:
        return 1.0
    table = [[candidate.count(False), candidate.count(True)], [stable.count(False), stable.count(True)]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _longest_error_run(ok: Sequence[bool]) -> int:
    longest = run = 0
    for good in ok:
        run = 0 if good else run + 1
        longest = max(longest, run)
    return longest
