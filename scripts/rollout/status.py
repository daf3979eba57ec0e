"""`rollout status`: what is live, who is moving it, and what that waits for."""

import math
from datetime import datetime

from scripts import records
from scripts.front import Front
from scripts.rollout.harm import mixture
from scripts.rollout.state import Phase, RolloutState, Weights
from scripts.rollout.store import Store

BAR = 20  # characters of 100 %
WAITS_FOR = {
    Phase.PROVISIONING: "deployment {candidate} to come up",
    Phase.SMOKE: "{candidate} to answer",
    Phase.SHADOW: "mirrored requests to {candidate}",
    Phase.AWAIT_APPROVAL: "an approval",
    Phase.SET: "Azure to take the weights {weights}",
    Phase.BAKE: "enough answers of {candidate} at {weight}%",
    Phase.POST_BAKE: "enough answers of {candidate} at {weight}%",
    Phase.HELD: "a person, or more evidence: then it goes back by itself",
    Phase.ROLLBACK_STUCK: "Azure to give {stable} all the traffic: do it by hand",
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
    requests: dict[str, int] | None = None
    bad: dict[str, int] | None = None
    harm_e_values: dict[str, float] | None = None
    runner: str | None = None
    epoch: int | None = None
    heartbeat_seconds: float | None = None
    waits_for: str = "nothing: there has been no rollout"
    reason: str | None = None
    approved_by: str | None = None
    verdict_digest: str | None = None


def status(endpoint: Front, store: Store) -> Status:
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
        requests=_by_colour(found, "requests"),
        bad=_by_colour(found, "bad"),
        harm_e_values={name: round(math.exp(min(mixture(values), 50.0)), 4) for name, values in _ratios(found).items()},
        runner=found.runner,
        epoch=found.epoch,
        heartbeat_seconds=round(found.silent_for(now).total_seconds(), 1),
        waits_for=waits,
        reason=found.reason,
        approved_by=found.approved_by,
        verdict_digest=found.verdict_digest or None,
    )


def _by_colour(found: RolloutState, what: str) -> dict[str, int]:
    whole = found.evidence.whole
    counted = {found.stable: getattr(whole.stable, what), found.candidate: getattr(whole.candidate, what)}
    return {name: count for name, count in counted.items() if name}


def _ratios(found: RolloutState) -> dict[str, list[float]]:
    probed = {"probe": found.evidence.wealth} if found.evidence.wealth else {}
    return {**found.evidence.harm, **probed}


def drawn(of: Status) -> list[tuple[str, str, str, str]]:
    """A row per colour: its name and part, its weight as a bar, its requests, the bad ones."""
    parts = {of.stable: "stable", of.candidate: "candidate"}
    names = dict.fromkeys([name for name in (of.stable, of.candidate) if name] + list(of.live))
    rows = []
    for name in names:
        weight, requests, bad = of.live.get(name, 0), (of.requests or {}).get(name), (of.bad or {}).get(name)
        bar = "█" * round(weight / 100 * BAR) + "░" * (BAR - round(weight / 100 * BAR))
        share = f"{bad} ({bad / requests:.1%})" if requests and bad is not None else "-"
        rows.append((f"{name} ({parts.get(name, 'neither')})", f"{bar} {weight} %", str(requests or "-"), share))
    return rows
