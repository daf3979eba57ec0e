"""`rollout status`: what is live, who is moving it, and what that waits for."""

from datetime import datetime

from scripts import records
from scripts.endpoint import Endpoint
from scripts.rollout.decide import Phase
from scripts.rollout.state import RolloutState, Weights
from scripts.rollout.store import Store

WAITS_FOR = {
    Phase.SET: "Azure to take the weights {weights}",
    Phase.BAKE: "enough answers of {candidate} at {weight}%",
    Phase.ROLLING_BACK: "{stable} to have all the traffic",
    Phase.PROMOTED: "nothing: {candidate} was promoted",
    Phase.ROLLED_BACK: "nothing: traffic was taken back to {stable}",
}


class Status(records.Record):
    """What `rollout status` prints; everything of the rollout is null when there has been none."""

    endpoint: str
    live: Weights
    phase: Phase | None = None
    stable: str | None = None
    candidate: str | None = None
    weight: int | None = None
    step: str | None = None
    looks: int | None = None
    runner: str | None = None
    epoch: int | None = None
    heartbeat_seconds: float | None = None
    waits_for: str = "nothing: there has been no rollout"
    reason: str | None = None
    approved_by: str | None = None
    verdict_digest: str | None = None


def status(endpoint: Endpoint, store: Store) -> Status:
    held = store.read()
    live = endpoint.traffic()
    return _of(held.state, live, records.now()) if held else Status(endpoint=endpoint.name, live=live)


def _of(found: RolloutState, live: Weights, now: datetime) -> Status:
    stable = found.stable or "nobody"
    waits = WAITS_FOR[found.phase].format(
        weights=found.intent or found.split(found.weight),
        candidate=found.candidate or stable,
        weight=found.weight,
        stable=stable,
    )
    return Status(
        endpoint=found.endpoint,
        live=live,
        phase=found.phase,
        stable=found.stable,
        candidate=found.candidate,
        weight=found.weight,
        step=f"{found.step + 1} of {len(found.plan)}" if found.plan else None,
        looks=found.looks,
        runner=found.runner,
        epoch=found.epoch,
        heartbeat_seconds=round(found.silent_for(now).total_seconds(), 1),
        waits_for=waits,
        reason=found.reason,
        approved_by=found.approved_by,
        verdict_digest=found.verdict_digest or None,
    )
