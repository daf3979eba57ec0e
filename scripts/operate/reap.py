"""What may be cleared away? A pure function of facts, a policy and the time. What is not known to be idle is kept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from scripts import records
from scripts.operate.policy import Reap

HOURS_A_MONTH = 730
SETTLED = ("Succeeded", "Failed")  # in any other state somebody is working on it
REFUSED = ("fail", "inconclusive", "invalid")
Action = Literal["delete", "scale to 0", "report", "keep"]


@dataclass(frozen=True)
class Colour:
    """A deployment of the environment's endpoint. `changed_at` None: nobody knows, so it is kept."""

    name: str
    changed_at: datetime | None
    state: str = "Succeeded"
    verdict: str = ""
    shape: str = ""
    instances: int = 1


@dataclass(frozen=True)
class Endpoint:
    """An online endpoint. `train`: the tag of the train that made it; `changed_at`: it or a deployment of it."""

    name: str
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)
    changed_at: datetime | None = None
    state: str = "Succeeded"
    train: str = ""
    instances: int = 0


@dataclass(frozen=True)
class Rollout:
    """The last rollout of the environment's endpoint: is it under way (then in which state), or when did it end?"""

    state: str
    under_way: bool
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Compute:
    name: str
    cluster: bool
    size: str
    min_instances: int = 0
    busy: bool = False


@dataclass(frozen=True)
class Facts:
    """`ours`: endpoint names that a settings file of this train still names; `train`: what it tags its own with."""

    endpoint: Endpoint
    train: str
    ours: frozenset[str] = frozenset()
    colours: tuple[Colour, ...] = ()
    rollout: Rollout | None = None
    others: tuple[Endpoint, ...] = ()
    computes: tuple[Compute, ...] = ()


class Finding(records.Part):
    """One thing nobody seems to use: what would be done about it, why, and what leaving it costs."""

    kind: str
    name: str
    action: Action
    why: str
    cost: str

    @property
    def doable(self) -> bool:
        return self.action in ("delete", "scale to 0")


def plan(facts: Facts, policy: Reap, now: datetime) -> list[Finding]:
    """Every idle thing. Nothing is to be done about any of them while a rollout is under way."""
    found = [
        *(_colour(each, facts, policy, now) for each in facts.colours if not _busy(facts.endpoint, each.name)),
        *(_endpoint(each, facts, policy, now) for each in facts.others if each.name not in facts.ours),
        *(_compute(each, policy) for each in facts.computes if not each.cluster or each.min_instances > 0),
    ]
    if busy := rollout_under_way(facts):
        return [each.model_copy(update={"action": "keep", "why": busy}) if each.doable else each for each in found]
    return found


def rollout_under_way(facts: Facts) -> str:
    """Why nothing may be touched now; "" when nothing is moving."""
    if facts.rollout and facts.rollout.under_way:
        return f"a rollout is under way ({facts.rollout.state})"
    weights = [weight for weight in facts.endpoint.traffic.values() if weight]
    return f"the traffic is split {dict(facts.endpoint.traffic)}" if weights not in ([], [100]) else ""


def _busy(endpoint: Endpoint, colour: str) -> bool:
    """Azure writes the names in `traffic` in lower case, whatever the deployments are called."""
    return any(name.lower() == colour.lower() and weight for name, weight in _weights(endpoint))


def _weights(endpoint: Endpoint) -> Iterable[tuple[str, int]]:
    return (*endpoint.traffic.items(), *endpoint.mirror.items())


def _colour(colour: Colour, facts: Facts, policy: Reap, now: datetime) -> Finding:
    # It changed hands when the last of these was written: itself, the endpoint's weights, the end of a rollout.
    ended = facts.rollout.ended_at if facts.rollout else None
    times = [time for time in (colour.changed_at, facts.endpoint.changed_at, ended) if time]
    waiting = _younger(colour.changed_at, policy.candidate_hours, now) and colour.verdict not in REFUSED
    kept = _first(
        (not any(facts.endpoint.traffic.values()), "nothing is live, so nothing else could answer"),
        (colour.state not in SETTLED, f"it is {colour.state}"),
        (colour.changed_at is None, "its age is unknown"),
        (waiting, f"its release may still be waiting (younger than {policy.candidate_hours:g} h, not refused)"),
        (
            _younger(max(times, default=None), policy.retention_hours, now),
            f"it changed hands less than {policy.retention_hours:g} h ago, and a rollback may need it",
        ),
    )
    why = f"no traffic for {policy.retention_hours:g} h or more"
    return Finding(
        kind="deployment",
        name=colour.name,
        action="keep" if kept else "delete",
        why=kept or why,
        cost=_instance_hours(colour.instances, colour.shape),
    )


def _endpoint(endpoint: Endpoint, facts: Facts, policy: Reap, now: datetime) -> Finding:
    finding = Finding(
        kind="endpoint",
        name=endpoint.name,
        action="delete",
        why=f"train {facts.train} made it, no settings file names it, and it has no traffic",
        cost=f"{endpoint.instances * HOURS_A_MONTH:,} instance-hours a month",
    )
    if endpoint.train != facts.train or not facts.train:
        return finding.model_copy(update={"action": "report", "why": "not made by this train: ask who needs it"})
    kept = _first(
        (endpoint.name in policy.keep_endpoints, "the policy keeps it"),
        (any(weight for _, weight in _weights(endpoint)), "it has traffic"),
        (endpoint.state not in SETTLED, f"it is {endpoint.state}"),
        (endpoint.changed_at is None, "its age is unknown"),
        (
            _younger(endpoint.changed_at, policy.retention_hours, now),
            f"it changed less than {policy.retention_hours:g} h ago",
        ),
    )
    return finding.model_copy(update={"action": "keep", "why": kept}) if kept else finding


def _compute(compute: Compute, policy: Reap) -> Finding:
    if not compute.cluster:
        why = "an instance is somebody's desk: ask whether it is still needed"
        cost = f"while it runs: {_instance_hours(1, compute.size)}"
        return Finding(kind="compute instance", name=compute.name, action="report", why=why, cost=cost)
    kept = _first(
        (compute.name in policy.keep_clusters, "the policy keeps it"),
        (compute.busy, "a job is, or may be, on it"),
    )
    return Finding(
        kind="cluster",
        name=compute.name,
        action="keep" if kept else "scale to 0",
        why=kept or f"its minimum is {compute.min_instances}, so it never stops, and no job is on it",
        cost=_instance_hours(compute.min_instances, compute.size),
    )


def _first(*rules: tuple[object, str]) -> str:
    return next((why for holds, why in rules if holds), "")


def _younger(when: datetime | None, hours: float, now: datetime) -> bool:
    """Unknown is young, and so is the future: a wrong clock deletes nothing."""
    return when is None or now - when < timedelta(hours=hours)


def _instance_hours(count: int, size: str) -> str:
    return f"{count * HOURS_A_MONTH:,} instance-hours a month ({count} × {size})"
