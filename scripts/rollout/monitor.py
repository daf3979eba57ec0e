"""Requests answered per minute by each deployment, and how many of them badly: the monitor that the settings choose.

`monitor: metrics` needs nothing set up; `monitor: request-log` needs a Log Analytics workspace and also knows how many
requests were slow. Both answer in the same minutes (monitor_minutes.py), so a rollout does not care which one it has.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from scripts.rollout.monitor_logs import LogsMonitor
from scripts.rollout.monitor_metrics import MetricsMonitor, mirrored
from scripts.rollout.monitor_minutes import BAD, Minute
from scripts.settings import Settings

__all__ = ["BAD", "LogsMonitor", "MetricsMonitor", "Minute", "Monitor", "mirrored", "monitor_of"]


class Monitor(Protocol):
    def minutes(
        self, deployments: Sequence[str], since: datetime, until: datetime, slow_ms: float | None = None
    ) -> dict[str, list[Minute]]:
        """Complete minutes from `since` to `until`, by deployment, oldest first; a minute nobody saw is absent."""
        ...


def monitor_of(settings: Settings, endpoint: str) -> Monitor:
    """The monitor that the settings name. Raises InvalidInput when they lack what it needs."""
    return LogsMonitor(settings, endpoint) if settings.monitor == "request-log" else MetricsMonitor(settings, endpoint)
