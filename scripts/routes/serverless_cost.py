"""What fine-tuning as a service costs: by the token. What nobody looked up is unknown, and refuses a job with a cap."""

from typing import TYPE_CHECKING

from scripts import records
from scripts.cost import estimate, hours, prices, runs
from scripts.routes import serverless_recipe
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

    from scripts.train import Plan


def forecast(settings: Settings, work: "Plan", _table: prices.Table, *, ml: "MLClient | None") -> estimate.Estimate:
    """By the token: no machine is rented. What nobody looked up is unknown, and refuses a job that has a cap."""
    del ml
    rate, price = _rate(settings, work)
    tokens = work.load.tokens if work.load else 0
    span = None
    if price.per_million_training_tokens and tokens:
        cost = tokens / 1e6 * price.per_million_training_tokens
        # Our count is of another tokenizer than the service's: a quarter more or less.
        span = hours.Span(low=0.75 * cost, likely=cost, high=1.25 * cost)
    said = f"{estimate.money(span, rate.currency)} for {tokens:,} tokens" if span else f"unknown: {rate.said}"
    return estimate.Estimate(
        recipe=work.recipe,
        instances=1,
        trials=1,
        hours=hours.unknown("the service does not say how long it will take"),
        rate=rate,
        cost=span,
        said=said,
    )


def _rate(settings: Settings, work: "Plan") -> tuple[prices.Rate, serverless_recipe.Price]:
    found = serverless_recipe.offer(work.base_model, settings.location, "fine_tune")
    price = found.price
    a_token = price.per_million_training_tokens
    said = f"no price of a training token of {found.name} was looked up ({serverless_recipe.TABLE})"
    if a_token:
        said = (
            f"{a_token:g} {serverless_recipe.table().currency} a million training tokens, looked up {price.looked_up}"
        )
    rate = prices.Rate(
        size=found.name,
        region=settings.location,
        tier="dedicated",
        currency=serverless_recipe.table().currency,
        per_hour=None,
        looked_up=price.looked_up,
        source=price.source,
        said=said,
    )
    return rate, price


def settle(
    _ml: "MLClient", settings: Settings, work: "Plan", job: "Job", _metrics: records.TrainingMetrics
) -> records.Paid:
    asked = forecast(settings, work, prices.load(), ml=None)
    amount = round(asked.cost.likely, 4) if asked.cost else None
    said = f"about {asked.said}, by our own count of tokens" if asked.cost else asked.said
    return records.Paid(
        node_hours=None,
        amount=amount,
        currency=asked.rate.currency,
        per_hour=None,
        priced_at=asked.rate.looked_up,
        tier="service",
        region=settings.location,
        estimated=(job.tags or {}).get(runs.ESTIMATED, ""),
        said=said,
    )
