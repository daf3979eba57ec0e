"""What may be cleared away? A pure function of facts, a policy and the time. What is not known to be idle is kept."""

from collections.abc import Iterable
from datetime import datetime

from scripts.operate import leftovers
from scripts.operate.finding import Finding, first, younger
from scripts.operate.policy import Reap
from scripts.operate.reap_things import Colour, Compute, Endpoint, Facts, Rollout, Serverless

HOURS_A_MONTH = 730
SETTLED = ("Succeeded", "Failed")  # in any other state somebody is working on it
REFUSED = ("fail", "inconclusive", "invalid")


def plan(facts: Facts, policy: Reap, now: datetime) -> list[Finding]:
    """Every idle thing. Nothing is to be done about any of them while a rollout is under way."""
    found = [
        *(_colour(each, facts, policy, now) for each in facts.colours if not _busy(facts.endpoint, each.name)),
        *(_endpoint(each, facts, policy, now) for each in facts.others if each.name not in facts.ours),
        *(_compute(each, facts, policy) for each in facts.computes if not each.cluster or each.min_instances > 0),
        *(_serverless(each, facts, policy, now) for each in facts.serverless if not _neighbours(each, facts)),
        *leftovers.models(facts.models, facts.named, policy, now),
        *leftovers.checkpoints(facts.checkpoints, facts.ended, policy, now),
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
    cost = _instance_hours(facts, colour.instances, colour.shape)
    if not colour.ours:
        who = "not made by this train: ask who needs it"
        return Finding(kind="deployment", name=colour.name, action="report", why=who, cost=cost)
    # It changed hands when the last of these was written: itself, the endpoint's weights, the end of a rollout.
    ended = facts.rollout.ended_at if facts.rollout else None
    times = [time for time in (colour.changed_at, facts.endpoint.changed_at, ended) if time]
    failed, live = colour.state == "Failed", any(facts.endpoint.traffic.values())
    waiting = younger(colour.changed_at, policy.candidate_hours, now) and colour.verdict not in REFUSED and not failed
    until = _way_back(colour, facts.rollout)
    kept = first(
        (until and now < until, f"it is the way back from the last promotion until {until}"),
        (not live and not failed, "nothing is live, so nothing else could answer"),
        (not live and colour.name.lower() in facts.endpoint.named, "nothing is live, and the endpoint's tags name it"),
        (colour.state not in SETTLED, f"it is {colour.state}"),
        (colour.changed_at is None, "its age is unknown"),
        (waiting, f"its release may still be waiting (younger than {policy.candidate_hours:g} h, not refused)"),
        (
            younger(max(times, default=None), policy.retention_hours, now),
            f"it changed hands less than {policy.retention_hours:g} h ago, and a rollback may need it",
        ),
    )
    why = f"no traffic for {policy.retention_hours:g} h or more" + (", and its deployment failed" if failed else "")
    return Finding(
        kind="deployment",
        name=colour.name,
        action="keep" if kept else "delete",
        why=kept or why,
        cost=cost,
    )


def _way_back(colour: Colour, rollout: Rollout | None) -> datetime | None:
    mine = rollout and rollout.way_back.lower() == colour.name.lower()
    return rollout.retain_until if rollout and mine else None


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
    kept = first(
        (endpoint.name in policy.keep_endpoints, "the policy keeps it"),
        (any(weight for _, weight in _weights(endpoint)), "it has traffic"),
        (endpoint.state not in SETTLED, f"it is {endpoint.state}"),
        (endpoint.changed_at is None, "its age is unknown"),
        (
            younger(endpoint.changed_at, policy.retention_hours, now),
            f"it changed less than {policy.retention_hours:g} h ago",
        ),
    )
    return finding.model_copy(update={"action": "keep", "why": kept}) if kept else finding


def _neighbours(endpoint: Serverless, facts: Facts) -> bool:
    return endpoint.application in facts.ours - {facts.endpoint.name}


def _serverless(endpoint: Serverless, facts: Facts, policy: Reap, now: datetime) -> Finding:
    """One for each model that was released or judged; each costs by the hour until it goes. Its model stays."""
    finding = Finding(
        kind="serverless endpoint",
        name=endpoint.name,
        action="delete",
        why=f"nobody is led to it, and {endpoint.model or 'its model'} is not the way back",
        cost="by the hour for a model of your own, also while nobody asks it",
    )
    if endpoint.application != facts.endpoint.name:
        return finding.model_copy(update={"action": "report", "why": "not made by this train: ask who needs it"})
    waiting = younger(endpoint.changed_at, policy.candidate_hours, now) and endpoint.verdict not in REFUSED
    kept = first(
        (endpoint.protected, "users are led to it, or it is the way back"),
        (endpoint.name in policy.keep_endpoints, "the policy keeps it"),
        (endpoint.state not in SETTLED, f"it is {endpoint.state}"),
        (endpoint.changed_at is None, "its age is unknown"),
        (waiting, f"its release may still be waiting (younger than {policy.candidate_hours:g} h, not refused)"),
        (
            younger(max(_times(endpoint, facts), default=None), policy.retention_hours, now),
            f"it changed hands less than {policy.retention_hours:g} h ago, and a rollback may need it",
        ),
    )
    return finding.model_copy(update={"action": "keep", "why": kept}) if kept else finding


def _times(endpoint: Serverless, facts: Facts) -> list[datetime]:
    """It changed hands when it was written or when the last rollout ended."""
    ended = facts.rollout.ended_at if facts.rollout else None
    return [time for time in (endpoint.changed_at, ended) if time]


def _compute(compute: Compute, facts: Facts, policy: Reap) -> Finding:
    if not compute.cluster:
        why = "an instance is somebody's desk: ask whether it is still needed"
        cost = f"while it runs: {_instance_hours(facts, 1, compute.size)}"
        return Finding(kind="compute instance", name=compute.name, action="report", why=why, cost=cost)
    kept = first(
        (compute.name in policy.keep_clusters, "the policy keeps it"),
        (compute.busy, "a job is, or may be, on it"),
    )
    return Finding(
        kind="cluster",
        name=compute.name,
        action="keep" if kept else "scale to 0",
        why=kept or f"its minimum is {compute.min_instances}, so it never stops, and no job is on it",
        cost=_instance_hours(facts, compute.min_instances, compute.size),
    )


def _instance_hours(facts: Facts, count: int, size: str) -> str:
    hours, hourly = count * HOURS_A_MONTH, facts.hourly.get(size.lower())
    money = f", {hours * hourly:,.0f} {facts.currency}" if hourly else ""
    return f"{hours:,} instance-hours a month ({count} × {size}{money})"
