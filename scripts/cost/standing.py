"""What an environment costs a month for being there, from the price table. No I/O.

A price that nobody looked up makes a part unknown, and then the sum is only the least that it can be.
"""

from collections.abc import Sequence
from datetime import date
from typing import Literal

from scripts import records
from scripts.cost import prices
from scripts.cost.estimate import HOURS_A_MONTH
from scripts.settings import Settings

DAYS_A_MONTH = HOURS_A_MONTH / 24
REGISTRY = "container registry Standard"  # the tier that `provision` makes
SERIES = "time series of a metric alert"
# `standing`: costs whether used or not. `idle`: nothing while nobody uses it. `use`: what is used is charged alone.
Basis = Literal["standing", "idle", "use"]


class Standing(records.Part):
    """One part. `a_month` None: unknown for what is standing; what is charged by use has none."""

    what: str
    basis: Basis
    a_month: float | None
    said: str


class Month(records.Part):
    """`at_least` sums the standing parts whose price is known; `unknown` names the others."""

    parts: list[Standing]
    at_least: float
    unknown: list[str]
    currency: str
    prices_of: date | None  # the oldest price that is in the sum; without any, the table's newest
    said: str


def month(settings: Settings, series: int, table: prices.Table, today: date) -> Month:
    """`series`: how many time series the alerts watch."""
    endpoint, dates = _endpoint(settings, table, today)
    known = [(endpoint, dates)] + [
        _service(table, settings.location, name, count, what)
        for name, count, what in ((REGISTRY, 1, "container registry"), (SERIES, series, "alerts"))
    ]
    parts = [each for each, _ in known]
    second = _second(settings, table, today)
    unknown = [each.what for each in parts if each.a_month is None]
    at_least = round(sum(each.a_month or 0.0 for each in parts), 2)
    looked_up = min((day for each, day in known if day and each.a_month is not None), default=prices.newest(table))
    whose = "prices of" if any(each.a_month for each in parts) else "the newest price in it is of"
    dated = f"{whose} {looked_up}" if looked_up else "nobody ever looked one up"
    said = _sum(at_least, unknown, table.currency, dated)
    return Month(
        parts=[*parts, second, *_unpriced(settings)],
        at_least=at_least,
        unknown=unknown,
        currency=table.currency,
        prices_of=looked_up,
        said=said,
    )


def _second(settings: Settings, table: prices.Table, today: date) -> Standing:
    """The other colour is not there for whole months: `cost` says for how long, and what that comes to."""
    serving = settings.serving
    rate = prices.rate(table, serving.instance_type, settings.location, "dedicated", today).per_hour
    hour = f"{rate * serving.instance_count:,.2f} {table.currency} an hour" if rate else "as much again"
    said = f"{hour} while a rollout lasts and its way back is kept (`cost` says how long)"
    return Standing(what="endpoint, second colour", basis="use", a_month=None, said=said)


def word(part: Standing, currency: str) -> str:
    """What stands in the column of the price."""
    if part.basis == "use":
        return "by use"
    if part.a_month is None:
        return "unknown"
    return f"{part.a_month:,.2f} {currency}"


def _endpoint(settings: Settings, table: prices.Table, today: date) -> tuple[Standing, date | None]:
    serving = settings.serving
    rate = prices.rate(table, serving.instance_type, settings.location, "dedicated", today)
    what = f"endpoint with {serving.instance_count} × {serving.instance_type}"
    what += f", under load up to {serving.scale.max_instances}" if serving.scale.on else ""
    amount = None if rate.per_hour is None else round(rate.per_hour * serving.instance_count * HOURS_A_MONTH, 2)
    said = f"from the first release on: {rate.said}. {rate.warning}".strip()
    return Standing(what=what, basis="standing", a_month=amount, said=said.rstrip(".")), rate.looked_up


def _service(table: prices.Table, region: str, name: str, count: int, what: str) -> tuple[Standing, date | None]:
    found = prices.service(table, name, region)
    if found is None or found.price is None:
        said = f"the price table has no price of {name} in {region}"
        return Standing(what=what, basis="standing", a_month=None, said=said), None
    amount = round(found.price * count * (DAYS_A_MONTH if found.per == "day" else 1), 2)
    said = f"{count} × {found.price:g} {table.currency} a {found.per}, looked up {found.looked_up}"
    return Standing(what=what, basis="standing", a_month=amount, said=said), found.looked_up


def _unpriced(settings: Settings) -> Sequence[Standing]:
    """What has no price of its own for being there."""
    compute = settings.compute
    told: list[tuple[str, Basis, str]] = [
        (
            f"cluster {compute.name}",
            "idle",
            f"no node runs {compute.idle_seconds} s after the last job: `cost` prices a job",
        ),
        ("storage, key vault, insights", "use", "by what is stored, asked and logged"),
    ]
    if settings.log_analytics_workspace_id:
        told.append(("request log", "use", "by the GB that Log Analytics takes in, about a row a request"))
    return [
        Standing(what=what, basis=basis, a_month=0.0 if basis == "idle" else None, said=said)
        for what, basis, said in told
    ]


def _sum(at_least: float, unknown: Sequence[str], currency: str, dated: str) -> str:
    if not unknown:
        return f"{at_least:,.2f} {currency} for being there, and what is used ({dated})"
    least = f"at least {at_least:,.2f} {currency}" if at_least else "unknown"
    without = f"the price table has no price of {', '.join(unknown)}"
    return f"{least}; {without} ({dated}; docs/cost.md says how to look one up)"
