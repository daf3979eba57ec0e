"""What a job will cost, what it did cost, and what the second colour of a rollout costs. No I/O."""

from collections.abc import Sequence
from datetime import datetime

from scripts import records
from scripts.cost.hours import Hours, Past, Span, Work, hours, unknown
from scripts.cost.prices import Rate
from scripts.errors import Refused
from scripts.rollout.policy import Policy

HOURS_A_MONTH = 730


class Estimate(records.Part):
    """Before a submit. `cost` None: unknown, and `said` tells what is missing."""

    recipe: str
    instances: int
    trials: int
    hours: Hours
    rate: Rate
    cost: Span | None
    said: str


class Capacity(records.Part):
    """Both colours of a rollout, from its first step until the old one may go. `extra` is for the second one alone."""

    instances: int
    hours: Span
    rate: Rate
    extra: Span | None
    both: Span | None
    a_month: float | None
    said: str


class Cost(records.Record):
    """`cost.json`."""

    training: Estimate
    rollout: Capacity
    cap: float | None
    warnings: list[str]


def of_work(job: Work | None, recipe: str, rate: Rate, past: Sequence[Past]) -> Estimate:
    """`job` None: nobody counted what there is to train."""
    if job is None:
        return estimate(recipe, 1, 1, unknown("nobody counted what there is to train"), rate)
    return estimate(recipe, job.instances, job.trials, hours(job, rate.size, past), rate)


def estimate(recipe: str, instances: int, trials: int, size_hours: Hours, rate: Rate) -> Estimate:
    runs = instances * trials
    cost = size_hours.span.times(rate.per_hour * runs) if size_hours.span and rate.per_hour else None
    if cost is None:
        missing = [size_hours.said] if size_hours.span is None else []
        missing += [rate.said] if rate.per_hour is None else []
        said = f"unknown: {'; '.join(missing)}"
    else:
        said = f"{money(cost, rate.currency)} ({size_hours.said})"
    return Estimate(
        recipe=recipe,
        instances=instances,
        trials=trials,
        hours=size_hours,
        rate=rate,
        cost=cost,
        said=said,
    )


def lowest(*caps: float | None) -> float | None:
    """A cap on the command line is one more, never a way round the one in the settings."""
    return min((cap for cap in caps if cap is not None), default=None)


def check(cap: float | None, asked: Estimate) -> None:
    """Raises Refused for a job that may cost more than the cap, or for which nobody knows what it costs."""
    if cap is None:
        return
    limit = f"{cap:g} {asked.rate.currency}"
    if asked.cost is None:
        raise Refused(
            f"What {asked.recipe} costs is {asked.said}. With a cap of {limit} that is refused: "
            "mend scripts/cost/prices.yaml or the recipe, or submit without a cap."
        )
    if asked.cost.high > cap:
        raise Refused(
            f"{asked.recipe} may cost {money(asked.cost, asked.rate.currency)}, and the cap is {limit}: "
            "train on less, take a cheaper size, or raise the cap."
        )


def paid(started: datetime | None, ended: datetime | None, instances: int, rate: Rate, estimated: str) -> records.Paid:
    """`started` and `ended` are Azure's; a job without them has no price, however little it did."""
    seconds = (ended - started).total_seconds() if started and ended else 0.0
    node_hours = round(seconds / 3600 * instances, 4) if seconds > 0 else None
    amount = round(node_hours * rate.per_hour, 4) if node_hours is not None and rate.per_hour is not None else None
    if node_hours is None:
        said = "unknown: Azure does not tell when the job ran"
    elif amount is None:
        said = f"unknown for {node_hours:.2f} node-hours: {rate.said}"
    else:
        said = f"{amount:,.2f} {rate.currency} for {node_hours:.2f} node-hours at {rate.said}"
    return records.Paid(
        node_hours=node_hours,
        amount=amount,
        currency=rate.currency,
        per_hour=rate.per_hour,
        priced_at=rate.looked_up,
        tier=rate.tier,
        region=rate.region,
        estimated=estimated,
        said=said,
    )


def rollout_hours(policy: Policy) -> Span:
    """From the candidate's first request to the promotion, then the retention of the old colour."""
    bake, steps = policy.bake, len(policy.steps)
    shadow = policy.shadow.minutes if policy.shadow.percent else 0.0
    least = shadow + bake.minutes * (steps - 1) + bake.post_minutes
    most = least + steps * (bake.max_minutes + bake.held_minutes) + policy.hard.provisioning_minutes
    waits = policy.approval.wait_hours if policy.approval.required else 0.0
    kept = policy.retention_hours
    return Span(low=least / 60 + kept, likely=least / 60 + kept, high=most / 60 + waits + kept)


def capacity(policy: Policy, instances: int, rate: Rate) -> Capacity:
    span = rollout_hours(policy)
    extra = both = a_month = None
    told = f"{instances} more instance{'s' if instances > 1 else ''} for {span.low:.1f} to {span.high:.1f} h"
    if rate.per_hour is None:
        said = f"{told}: unknown, {rate.said}"
    else:
        extra = span.times(rate.per_hour * instances)
        both = extra.times(2)
        a_month = round(rate.per_hour * instances * HOURS_A_MONTH, 2)
        said = f"{told}: {money(extra, rate.currency)}; both colours {money(both, rate.currency)}"
    return Capacity(instances=instances, hours=span, rate=rate, extra=extra, both=both, a_month=a_month, said=said)


def money(span: Span, currency: str) -> str:
    return f"{span.low:,.2f} to {span.high:,.2f} {currency}"
