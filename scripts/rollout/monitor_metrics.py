"""How many requests each deployment answered per minute, and how many of them badly, as Azure Monitor counted them.

Users' requests are the endpoint's own metric: `RequestsPerMinute`, namespace `…/workspaces/onlineEndpoints`, PT1M,
aggregation Average, dimensions deployment, statusCode, statusCodeClass, modelStatusCode
(https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/microsoft-machinelearningservices-workspaces-onlineendpoints-metrics).
Average is the only aggregation the page names, and a mean over two series hides their sum (424 with the model's 500
three times and with its 400 five times is "4"). So each series is asked for by itself, which makes the mean of its one
sample a minute the count; a first, coarser question tells whether the service left a series out of the finer one.

Mirrored copies are not users' requests. The deployment's metric of the same name (dimension envoy_response_code, see
…-onlineendpoints-deployments-metrics) counts what was sent to the deployment, copies included: mirroring is there "so
that you can gather metrics" (https://learn.microsoft.com/azure/machine-learning/how-to-safely-rollout-online-endpoints).

Platform metrics come without setting anything up, one to three minutes late (`monitor_delay_minutes`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from scripts import azure_ml, role_errors
from scripts.errors import AzureFailed
from scripts.rollout.monitor_minutes import (
    MINUTE,
    Count,
    Minute,
    minute,
    plain,
    quantity,
    status,
    tally,
    whole,
    whole_minutes,
)
from scripts.settings import Settings

METRIC = "RequestsPerMinute"
ENDPOINTS = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
SERIES = 1000  # Azure gives ten unless told, and says nothing of the rest
TIMEOUTS = {"connection_timeout": 10, "read_timeout": 30}  # seconds; the SDK's own are five minutes
READER = "Monitoring Reader on the subscription /subscriptions/{} (metrics are asked for there, not on the endpoint)"


class MetricsMonitor:
    """Platform metrics. They have no latency by request, so `slow` is always None. Raises AzureFailed as Azure does."""

    def __init__(self, settings: Settings, endpoint: str) -> None:
        self._metrics, (self._endpoint,) = Metrics(settings), plain([endpoint])

    def minutes(
        self,
        deployments: Sequence[str],
        since: datetime,
        until: datetime,
        slow_ms: float | None = None,  # noqa: ARG002 (the request log knows, metrics do not)
    ) -> dict[str, list[Minute]]:
        start, end = self._metrics.whole_minutes(since, until)
        if not deployments or start >= end:
            return {name: [] for name in deployments}
        resource = self._metrics.endpoint(self._endpoint)
        where = " or ".join(f"deployment eq '{name}'" for name in plain(deployments)) + " and statusCode eq '*'"
        with asking(f"Counting the requests of {self._endpoint}", self._metrics.reader):
            coarse = self._metrics.series(ENDPOINTS, resource, where, start, end)
            fine = self._metrics.series(ENDPOINTS, resource, f"{where} and modelStatusCode eq '*'", start, end)
            return tally(_complete(_totals(fine, "statuscode"), coarse), deployments)


def mirrored(
    settings: Settings, endpoint: str, deployments: Sequence[str], since: datetime, until: datetime
) -> dict[str, list[Minute]]:
    """Minutes of what was sent to the deployments themselves: for a shadow, its mirrored copies.

    Not for a deployment with live traffic, whose users' requests are in it as well; requests that name the shadow in
    their header are in it too. Nobody got these answers, so any status but 2xx is bad: a user would have got a 424.
    """
    metrics = Metrics(settings)
    start, end = metrics.whole_minutes(since, until)
    found: dict[str, list[Minute]] = {name: [] for name in deployments}
    for name in plain(deployments) if start < end else []:
        resource = f"{metrics.endpoint(*plain([endpoint]))}/deployments/{name}"
        with asking(f"Counting the mirrored requests of {name}", metrics.reader):
            series = metrics.series(f"{ENDPOINTS}/deployments", resource, "envoy_response_code eq '*'", start, end)
            totals = _totals(series, "envoy_response_code", name)
        counts = (Count(who, at, code if 200 <= code < 300 else 424, n) for (who, at, code), n in totals.items())
        found |= tally(counts, [name])
    return found


Totals = dict[tuple[str, datetime, int], int]
Series = Sequence[tuple[Mapping[str, str], Sequence[tuple[datetime, float]]]]


class Metrics:
    """The metrics data plane of the workspace's region, signed in as everything else."""

    def __init__(self, settings: Settings) -> None:
        from azure.monitor.querymetrics import MetricsClient

        region = settings.location.lower().replace(" ", "")
        self._client = MetricsClient(f"https://{region}.metrics.monitor.azure.com", azure_ml.credential(), **TIMEOUTS)
        self._delay = timedelta(minutes=settings.monitor_delay_minutes)
        self._workspace = (
            f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{settings.workspace}"
        )
        self.reader = READER.format(settings.subscription_id)

    def endpoint(self, name: str) -> str:
        return f"{self._workspace}/onlineEndpoints/{name}"

    def whole_minutes(self, since: datetime, until: datetime) -> tuple[datetime, datetime]:
        return whole_minutes(since, until, self._delay, datetime.now(UTC))

    def series(self, namespace: str, resource: str, where: str, start: datetime, end: datetime) -> Series:
        """The means that are there, by the dimensions (names in lower case) that the filter splits by.

        Nothing for a deployment that Azure does not know.
        """
        from azure.core.exceptions import ResourceNotFoundError

        try:
            results = self._client.query_resources(
                resource_ids=[resource],
                metric_namespace=namespace,
                metric_names=[METRIC],
                timespan=(start, end),
                granularity=MINUTE,
                aggregations=["Average"],
                filter=where,
                max_results=SERIES,
            )
        except ResourceNotFoundError:
            if namespace == ENDPOINTS:
                raise
            return []
        return read_series(results, start, end)


def read_series(results: Sequence[Any], start: datetime, end: datetime) -> Series:
    """The SDK's answer as plain values. Raises AzureFailed for one that is cut off, of another grain, or no numbers."""
    found = []
    for result in results:
        if result.granularity not in (None, MINUTE):
            raise AzureFailed(f"Azure Monitor answered by {result.granularity} though asked for minutes.")
        for series in (series for metric in result.metrics for series in metric.timeseries):
            values = {name.lower(): str(value) for name, value in series.metadata_values.items()}
            seen = [point for point in series.data if point.average is not None]
            points = [(minute(point.timestamp, "a time"), quantity(point.average, METRIC)) for point in seen]
            found.append((values, [(at, mean) for at, mean in points if start <= at < end]))
    if len(found) >= SERIES:
        raise AzureFailed(f"Azure Monitor has {SERIES} series or more of these requests: ask for fewer deployments.")
    return found


def _totals(series: Series, code: str, deployment: str | None = None) -> Totals:
    """Requests by deployment, minute and code, over all series of each."""
    totals: Totals = {}
    for values, points in series:
        who = deployment or values["deployment"].lower()
        counted = [(at, whole(mean, METRIC)) for at, mean in points]
        # The code of a series that counts nothing is nobody's concern.
        for at, requests in counted if any(requests for _, requests in counted) else []:
            key = (who, at, status(values[code], code))
            totals[key] = totals.get(key, 0) + requests
    return totals


def _complete(totals: Totals, coarse: Series) -> Iterable[Count]:
    """The counts, once the means that were asked for without the split by the model's own status are all in them."""
    for values, points in coarse:
        for at, mean in points:
            key = (values["deployment"].lower(), at, status(values["statuscode"], "statuscode") if mean else 0)
            if mean > totals.get(key, 0) + 1e-6:
                raise AzureFailed(
                    f"Azure Monitor's counts of {values['deployment']} at {at:%H:%M} do not add up: "
                    "some are missing when split by modelStatusCode; set `monitor: request-log`."
                )
    return [Count(who, at, code, requests) for (who, at, code), requests in totals.items()]


@contextmanager
def asking(doing: str, role: str) -> Iterator[None]:
    """One sentence for whatever goes wrong: for a 403 the role that is missing, for a strange answer that it is one."""
    from azure.core.exceptions import HttpResponseError

    with azure_ml.explained(doing):
        try:
            yield
        except HttpResponseError as error:
            if error.status_code == 403:
                raise AzureFailed(f"{doing}: this identity lacks the role {role}: {role_errors.GITHUB}.") from error
            raise
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # the SDK's, over an answer of no shape
            raise AzureFailed(f"{doing}: Azure Monitor's answer cannot be read ({type(error).__name__}).") from error
