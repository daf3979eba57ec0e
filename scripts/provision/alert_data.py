"""The alerts as data (alerts.yaml), and the numbers that they mean in one environment."""

from functools import cache
from math import prod
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scripts import yaml_files
from scripts.rollout import policy
from scripts.settings import Settings

FILE = Path("scripts/provision/alerts.yaml")


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Alert(Part):
    """A row of alerts.yaml; what its fields mean stands there."""

    name: str = Field(pattern=r"^[a-z][a-z-]{1,40}$")
    of: Literal["endpoint", "workspace"]
    metric: str
    aggregation: Literal["Average", "Total", "Maximum"]
    dimensions: dict[str, list[str]] = {}
    above: float | Literal["slow"]
    minutes: Literal[1, 5, 15, 30, 60, 360, 720, 1440]  # the windows that Azure has …
    every: Literal[1, 5, 15, 30, 60]  # … and how often it looks
    severity: int = Field(ge=0, le=4)
    when: Literal["always", "collecting"] = "always"
    means: str
    todo: str

    @model_validator(mode="after")
    def _looks_often_enough(self) -> "Alert":
        if self.every > self.minutes:
            raise ValueError(f"{self.name}: every {self.every} minutes is too seldom for a window of {self.minutes}")
        return self


class Alerts(Part):
    alerts: list[Alert]

    @model_validator(mode="after")
    def _once_each(self) -> "Alerts":
        known = [each.name for each in self.alerts]
        if len(set(known)) < len(known):
            raise ValueError("each alert needs a name of its own")
        return self


@cache
def load(path: Path = FILE) -> tuple[Alert, ...]:
    """Raises InvalidInput naming the file and the key."""
    return tuple(yaml_files.read(Alerts, path, "the file of the alerts").alerts)


def wanted(settings: Settings) -> list[Alert]:
    """The alerts of an environment."""
    collecting = any(settings.serving.collect.collections.values())
    return [each for each in load() if each.when == "always" or collecting]


def series(settings: Settings) -> int:
    """How many time series they watch, which is what Azure charges for."""
    return sum(prod(len(values) for values in each.dimensions.values()) for each in wanted(settings))


def means(settings: Settings, alert: Alert) -> str:
    return alert.means.replace("{limit}", f"{limit(settings, alert):g}")


def limit(settings: Settings, alert: Alert) -> float:
    """The number that `above` stands for."""
    if alert.above != "slow":
        return float(alert.above)
    slow = policy.load(settings.rollout_policy).harm.slow_ms
    return float(slow if slow is not None else settings.serving.request_timeout_ms / 2)
