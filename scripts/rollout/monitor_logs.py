"""The same minutes out of the request log, which knows of each request its code and how long it took.

A diagnostic setting of the endpoint sends the category AmlOnlineEndpointTrafficLog to a Log Analytics workspace
(https://learn.microsoft.com/azure/azure-monitor/reference/tables/amlonlineendpointtrafficlog). Rows arrive minutes
later than metrics do. Nothing is documented of mirrored copies in this table, and none is looked for: `mirrored` in
monitor_metrics.py asks the deployment's metric whichever monitor is chosen.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from scripts import azure_ml
from scripts.errors import AzureFailed, InvalidInput
from scripts.rollout.monitor_metrics import TIMEOUTS, asking
from scripts.rollout.monitor_minutes import Count, Minute, minute, plain, status, tally, whole, whole_minutes
from scripts.settings import Settings

READER = "Log Analytics Reader on the Log Analytics workspace {}"
QUERY = """AmlOnlineEndpointTrafficLog
| where TimeGenerated >= datetime({start:%Y-%m-%dT%H:%M:%SZ}) and TimeGenerated < datetime({end:%Y-%m-%dT%H:%M:%SZ})
| where AzureMLWorkspaceName =~ '{workspace}' and EndpointName =~ '{endpoint}' and DeploymentName in~ ({deployments})
| summarize Requests = count(){slow} by DeploymentName, ResponseCode, Minute = bin(TimeGenerated, 1m)"""
SLOW = ", Slow = countif(TotalDurationMs > {:.3f})"


class LogsMonitor:
    """The request log. Raises AzureFailed as Azure does, InvalidInput when the settings name no Log Analytics."""

    def __init__(self, settings: Settings, endpoint: str) -> None:
        from azure.monitor.query import LogsQueryClient

        if not settings.log_analytics_workspace_id:
            raise InvalidInput("The request log needs log_analytics_workspace_id in the settings.")
        self._client = LogsQueryClient(azure_ml.credential(), **TIMEOUTS)
        self._log = settings.log_analytics_workspace_id
        self._delay = timedelta(minutes=settings.monitor_delay_minutes)
        self._workspace, self._endpoint = plain([settings.workspace, endpoint])

    def minutes(
        self, deployments: Sequence[str], since: datetime, until: datetime, slow_ms: float | None = None
    ) -> dict[str, list[Minute]]:
        if slow_ms is not None and not 0 <= slow_ms < math.inf:
            raise ValueError(f"slow_ms must be milliseconds, not {slow_ms}")
        start, end = whole_minutes(since, until, self._delay, datetime.now(UTC))
        if not deployments or start >= end:
            return {name: [] for name in deployments}
        query = QUERY.format(
            start=start,
            end=end,
            workspace=self._workspace,
            endpoint=self._endpoint,
            deployments=", ".join(f"'{name}'" for name in plain(deployments)),
            slow="" if slow_ms is None else SLOW.format(slow_ms),
        )
        with asking(f"Reading the request log of {self._endpoint}", READER.format(self._log)):
            answer = self._client.query_workspace(self._log, query, timespan=(start, end))
            return tally(read_counts(answer), deployments)


def read_counts(answer: Any) -> list[Count]:
    """The rows of the one table. Raises AzureFailed for a partial answer and for what is no count."""
    if (error := getattr(answer, "partial_error", None)) is not None or len(answer.tables) != 1:
        why = getattr(error, "message", None) or "no table"
        raise AzureFailed(f"The request log answered in part only ({why}): nothing is judged by it.")
    table = answer.tables[0]
    timed = "Slow" in table.columns
    return [
        Count(
            str(row["DeploymentName"]),
            minute(row["Minute"], "Minute"),
            status(row["ResponseCode"], "ResponseCode"),
            whole(row["Requests"], "Requests"),
            whole(row["Slow"], "Slow") if timed else None,
        )
        for row in table.rows
    ]
