"""The price table: what an instance of a size costs for an hour in a region, when that was looked up, and where."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from scripts import records, yaml_files

TABLE = Path(__file__).with_name("prices.yaml")
OLD_DAYS = 180  # prices are changed without notice: older than this is worth a warning
Tier = Literal["dedicated", "low_priority"]
PerHour = Annotated[float, Field(gt=0)]


class Price(records.Part):
    """A row of prices.yaml; null for what nobody has looked up."""

    size: str
    region: str
    dedicated: PerHour | None
    low_priority: PerHour | None
    looked_up: date | None
    source: str | None

    @model_validator(mode="after")
    def _known_prices_say_whence(self) -> Self:
        if (self.dedicated or self.low_priority) and not (self.looked_up and self.source):
            raise ValueError(f"the price of {self.size} in {self.region} needs looked_up and source")
        return self


class Service(records.Part):
    """What something costs for standing there, by the day or the month; null for what nobody has looked up."""

    service: str
    region: str
    per: Literal["day", "month"]
    price: PerHour | None
    looked_up: date | None
    source: str | None

    @model_validator(mode="after")
    def _known_prices_say_whence(self) -> Self:
        if self.price and not (self.looked_up and self.source):
            raise ValueError(f"the price of {self.service} in {self.region} needs looked_up and source")
        return self


class Table(records.Part):
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    prices: list[Price]
    services: list[Service] = Field(default_factory=list)

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        keys = [_key(each.size, each.region) for each in self.prices]
        keys += [_key(each.service, each.region) for each in self.services]
        twice = next((f"{size} in {region}" for size, region in keys if keys.count((size, region)) > 1), None)
        if twice:
            raise ValueError(f"{twice} is there twice")
        return self


class Rate(records.Part):
    """What an hour of one instance costs; `per_hour` None: unknown, and `said` is why. `warning`: the price is old."""

    size: str
    region: str
    tier: Tier
    currency: str
    per_hour: float | None
    looked_up: date | None
    source: str | None
    said: str
    warning: str = ""


def load(path: Path = TABLE) -> Table:
    """Raises InvalidInput naming the file and the key."""
    return yaml_files.read(Table, path, "the price table")


def rate(table: Table, size: str, region: str, tier: Tier, today: date) -> Rate:
    """The price of a size in a region, known or not."""
    row = next((each for each in table.prices if _key(each.size, each.region) == _key(size, region)), None)
    per_hour = getattr(row, tier) if row else None
    known: dict[str, Any] = {"size": size, "region": region, "tier": tier, "currency": table.currency}
    if row is None or per_hour is None:
        said = f"the price table has no {_tier(tier)} price of {size} in {region}{_elsewhere(table.prices, size, tier)}"
        return Rate(**known, per_hour=None, looked_up=None, source=None, said=said)
    days = (today - row.looked_up).days if row.looked_up else OLD_DAYS + 1
    said = f"{per_hour:g} {table.currency} an hour for {size} in {region}, {_tier(tier)}, looked up {row.looked_up}"
    warning = f"The price of {size} is {days} days old: look it up again." if days > OLD_DAYS else ""
    return Rate(**known, per_hour=per_hour, looked_up=row.looked_up, source=row.source, said=said, warning=warning)


def service(table: Table, name: str, region: str) -> Service | None:
    """The row of a service in a region, None where the table has none."""
    return next((each for each in table.services if _key(each.service, each.region) == _key(name, region)), None)


def newest(table: Table) -> date | None:
    """The day of the last look-up."""
    every = [each.looked_up for each in table.prices] + [each.looked_up for each in table.services]
    return max((day for day in every if day), default=None)


def _elsewhere(rows: Sequence[Price], size: str, tier: Tier) -> str:
    """A price of another region is a hint for people, and never counted with."""
    known = [(each.region, getattr(each, tier)) for each in rows if each.size.lower() == size.lower()]
    hints = [f"{price:g} in {region}" for region, price in known if price]
    return f" (it has {', '.join(hints)})" if hints else ""


def _key(size: str, region: str) -> tuple[str, str]:
    return size.lower(), region.lower().replace(" ", "")


def _tier(tier: Tier) -> str:
    return tier.replace("_", "-")
