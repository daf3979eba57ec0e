"""`rollout simulate`: the dry run of a policy. The real decider, a simulated clock, made-up or recorded requests.

Everything that `decide.step` asks for is done at once and as asked; what Azure does that surprises is not played here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scripts.rollout import decide
from scripts.rollout.approval import Approval
from scripts.rollout.effects import Effect, Page, Probe, Sample, Scale, SetTraffic, SmokeTest, Wait
from scripts.rollout.evidence import Batch, Count, Graded, Sides
from scripts.rollout.made_up import CANDIDATE, MINUTE, STABLE, Source
from scripts.rollout.observation import STANDS, Deployed, Observation
from scripts.rollout.policy import Policy
from scripts.rollout.state import Phase, RolloutState, all_to, nonzero

LIMIT = timedelta(days=90)  # whatever the policy says, a simulation ends
HOUR = timedelta(hours=1)
ASKING = timedelta(seconds=1)  # what a look at requests of ours takes
NOBODY = "simulated"


@dataclass(frozen=True)
class Moment:
    """What one minute's tick came to; `told` are the batches that it brought."""

    now: datetime
    state: RolloutState
    told: Sequence[Batch]
    wait: Wait | None


def drive(source: Source, policy: Policy, *, approved: bool) -> Iterator[Moment]:
    """A tick each minute until the rollout or the ledger has ended; each hour while it waits for an approval."""
    state, now, until = _begun(source, policy, approved=approved), source.start, source.start + LIMIT
    while True:
        told = source.minutes(now)
        state, wait, now = _tick(state, source, told, now, policy)
        yield Moment(now, state, told, wait)
        if not state.under_way or source.over(now) or now >= until:
            return
        step = HOUR if state.phase is Phase.AWAIT_APPROVAL and wait and wait.person else MINUTE
        now = source.start + (now - source.start) // MINUTE * MINUTE + step


def _tick(
    state: RolloutState, source: Source, told: Sequence[Batch], now: datetime, policy: Policy
) -> tuple[RolloutState, Wait | None, datetime]:
    """As the executor ticks: decide, carry out, look again, until something must be waited for."""
    seen = look(source, told)
    while True:
        state, effects = decide.step(state, seen, now, policy)
        if not effects and not state.under_way:
            return state, None, now
        gained = [result for effect in effects if (result := _carried_out(effect, source, now))]
        now += ASKING * sum(isinstance(effect, Sample) for effect in effects)
        wait = next((effect for effect in effects if isinstance(effect, Wait) and effect.seconds), None)
        if wait:
            for result in gained:
                state = decide.absorbed(state, result, policy)
            return state, wait, now
        seen = look(source, ())
        for result in gained:
            seen = seen.plus(result)


def look(source: Source, told: Sequence[Batch]) -> Observation:
    """Everything can always be read."""
    instances = {STABLE: source.instances, CANDIDATE: source.candidate_instances}
    deployed = {name: Deployed(STANDS, NOBODY, count) for name, count in instances.items()}
    return Observation(dict(source.weights), dict(source.mirror), deployed, told)


def _carried_out(effect: Effect, source: Source, now: datetime) -> Observation | None:
    match effect:
        case SetTraffic(weights, mirror):
            source.weights, source.mirror = nonzero(weights), dict(mirror)
        case Scale(_, instances):
            source.candidate_instances = instances
        case SmokeTest(count):
            return Observation(None, None, None, smoke=source.smoke(count))
        case Sample(count):
            return Observation(None, None, None, batches=[source.sample(count, now)])
        case Probe(pairs):
            return Observation(None, None, None, drops=source.drops(pairs), graded=_harmless(pairs))
        case Page() | Wait():
            pass
    return None


def _harmless(pairs: int) -> Graded:
    """Nobody makes up what answers say: that they could be graded, and that nothing was in them."""
    return Graded(sides=Sides(candidate=Count(requests=pairs), stable=Count(requests=pairs)))


def _begun(source: Source, policy: Policy, *, approved: bool) -> RolloutState:
    given = Approval(
        verdict_digest=NOBODY,
        candidate_model=NOBODY,
        baseline_model=NOBODY,
        approved_by=NOBODY,
        approved_at=source.start,
        run_url=None,
        policy_digest=policy.digest,
    )
    return RolloutState(
        endpoint=NOBODY,
        stable=STABLE,
        candidate=CANDIDATE,
        stable_model=NOBODY,
        candidate_model=NOBODY,
        verdict_digest=NOBODY,
        policy_digest=policy.digest,
        approval=given if approved else None,
        epoch=1,
        runner=NOBODY,
        phase=Phase.PROVISIONING,
        since=source.start,
        plan=policy.steps,
        standing=all_to(STABLE),
        reason="begun",
        started_at=source.start,
        updated_at=source.start,
    )
