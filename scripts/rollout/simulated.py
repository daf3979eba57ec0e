"""What simulated rollouts come to: one minute by minute, or how many of many ended how."""

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from math import exp

from scripts import records
from scripts.rollout.evidence import Count, missing
from scripts.rollout.made_up import MINUTE, MadeUp, Source, World
from scripts.rollout.policy import Policy
from scripts.rollout.simulate import Moment, drive
from scripts.rollout.state import Phase, Weights

BAKING = (Phase.BAKE, Phase.POST_BAKE, Phase.HELD)


class Row(records.Part):
    """A minute: where the rollout stood at its end, what it was told of each side, the e-value for harm so far."""

    minute: float
    phase: Phase
    weights: Weights
    candidate: Count
    stable: Count
    e_value: float
    why: str


class Simulated(records.Record):
    """What would happen once. `end` is a phase: PROMOTED, ROLLED_BACK, or another when the ledger ended before.

    `candidate` and `stable`: requests of users from the candidate's first weight on.
    """

    policy_digest: str
    end: Phase
    reason: str
    minutes: float
    held: bool
    candidate: Count
    stable: Count
    rows: list[Row]


class Rates(records.Record):
    """What would happen in many runs: shares of them, minutes of those that ended so, bad requests of each run.

    `held` is the share that called a person on the way; how those ended is counted too.
    """

    policy_digest: str
    runs: int
    promoted: float
    rolled_back: float
    held: float
    minutes_to_promoted: float | None
    minutes_to_rolled_back: float | None
    minutes_to_rolled_back_p90: float | None
    candidate_bad_mean: float
    candidate_bad_p95: float
    reasons: dict[str, int]


def once(source: Source, policy: Policy, *, approved: bool) -> Simulated:
    moments = list(drive(source, policy, approved=approved))
    last = moments[-1]
    return Simulated(
        policy_digest=policy.digest,
        end=last.state.phase,
        reason=_why(last, policy),
        minutes=_minutes(last.now - source.start),
        held=any(each.state.phase is Phase.HELD for each in moments),
        candidate=source.users.candidate,
        stable=source.users.stable,
        rows=[_row(each, source.start, policy) for each in moments],
    )


def often(world: World, policy: Policy, runs: int) -> Rates:
    promoted: list[float] = []
    rolled_back: list[float] = []
    bad: list[int] = []
    reasons: Counter[str] = Counter()
    held = 0
    for run in range(runs):
        source, was_held = MadeUp(world, run), False
        for moment in drive(source, policy, approved=world.approved):
            was_held = was_held or moment.state.phase is Phase.HELD
        ended = {Phase.PROMOTED: promoted, Phase.ROLLED_BACK: rolled_back}.get(moment.state.phase)
        if ended is not None:
            ended.append(_minutes(moment.now - source.start))
        reasons[f"{moment.state.phase}: {words(_why(moment, policy))}"] += 1
        bad.append(source.users.candidate.bad)
        held += was_held
    return Rates(
        policy_digest=policy.digest,
        runs=runs,
        promoted=len(promoted) / runs,
        rolled_back=len(rolled_back) / runs,
        held=held / runs,
        minutes_to_promoted=statistics.median(promoted) if promoted else None,
        minutes_to_rolled_back=statistics.median(rolled_back) if rolled_back else None,
        minutes_to_rolled_back_p90=_quantile(rolled_back, 0.9),
        candidate_bad_mean=round(statistics.fmean(bad), 2),
        candidate_bad_p95=_quantile(bad, 0.95) or 0.0,
        reasons=dict(reasons.most_common()),
    )


def _why(moment: Moment, policy: Policy) -> str:
    state, wait = moment.state, moment.wait
    if state.phase is Phase.HELD or not wait:
        return state.reason
    if state.phase not in BAKING:
        return wait.what
    least = policy.bake.post_minutes if state.phase is Phase.POST_BAKE else policy.bake.minutes
    lacking = missing(state.evidence, policy)
    return lacking or f"{_minutes(moment.now - state.since):g} of {least:g} minutes at this weight"


def words(reason: str) -> str:
    """A reason without its numbers, so that the same ones can be counted."""
    return re.sub(r"[0-9][0-9.e+]*", "N", reason)


def _row(moment: Moment, start: datetime, policy: Policy) -> Row:
    both = [each.signals["error"] for each in moment.told]
    evidence = moment.state.evidence
    return Row(
        minute=_minutes(moment.now - start),
        phase=moment.state.phase,
        weights=moment.state.standing,
        candidate=_sum(each.candidate for each in both),
        stable=_sum(each.stable for each in both),
        e_value=float(f"{exp(min(evidence.log_harm(policy), 50.0)):.4g}"),
        why=_why(moment, policy),
    )


def _sum(counts: Iterator[Count]) -> Count:
    total = Count()
    for count in counts:
        total = total.plus(count)
    return total


def _minutes(span: timedelta) -> float:
    return round(span / MINUTE, 2)


def _quantile(values: Sequence[float], share: float) -> float | None:
    return float(sorted(values)[min(len(values) - 1, int(share * len(values)))]) if values else None
