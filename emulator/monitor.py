"""Azure Monitor's metrics data plane: requests per minute of endpoints and deployments, out of the traffic log.

As in Azure: every series has a point for each minute asked for, without a value where nothing was counted; Average is
the mean over all samples that a series pools, so a filter that leaves a dimension out hides sums; dimension names come
back in lower case; ten series come back unless `top` says otherwise; the minute under way has what it has so far.
EMULATOR_MONITOR_DELAY_SECONDS (0 unless set; in Azure one to three minutes) keeps requests invisible for that long.

An endpoint's metric counts users' requests, its deployments' metric all that was sent to them, mirrored copies too.
https://learn.microsoft.com/rest/api/monitor/metrics-batch/batch?view=rest-monitor-2024-02-01
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.resources import PROVIDER
from emulator.roles import may, refuse
from emulator.routing import Call, route
from emulator.runtime import runtime_of
from emulator.traffic_log import Tally

HOST = r"[a-z0-9]+\.metrics\.monitor\.azure\.com"
DELAY = "EMULATOR_MONITOR_DELAY_SECONDS"
METRIC, TYPE = "RequestsPerMinute", f"{PROVIDER}/workspaces/onlineEndpoints"
# The dimensions of the metric, by namespace, with the names that answers use.
DIMENSIONS = {
    TYPE.lower(): ("deployment", "statuscode", "statuscodeclass", "modelstatuscode"),
    f"{TYPE}/deployments".lower(): ("envoy_response_code",),
}
RESOURCE = re.compile(
    r"(?P<endpoint>/subscriptions/.+/onlineEndpoints/[^/]+)(/deployments/(?P<deployment>[^/]+))?", re.I
)
TERM = re.compile(r"(\w+) eq '([^']*)'")
# What only one value is answered for, and what that is.
FIXED = {"interval": "PT1M", "metricnames": METRIC, "aggregation": "Average"}
TOP = 10


def visible_until() -> float:
    """Requests from this time on are not known to Azure Monitor yet (seconds since 1970)."""
    return time.time() - float(os.environ.get(DELAY) or 0)


def need_reader(call: Call, action: str, scope: str) -> None:
    """ArmError 403 for a caller without a role that reads this."""
    if not may(call, action, scope):
        raise refuse(call, action, scope)


def instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ArmError(400, "BadRequest", f"'{text}' is not a time of the form yyyy-MM-ddTHH:mm:ss.fffZ.") from None


@route("POST", HOST, r"/subscriptions/(?P<sub>[^/]+)/metrics:getBatch", audience="metrics")
def get_batch(call: Call) -> Response:
    query = {name.lower(): value for name, value in call.query.items()}
    need_reader(call, "Microsoft.Insights/metrics/read", f"/subscriptions/{call.args['sub']}")
    for name, only in FIXED.items():
        if query.get(name, "").lower() != only.lower():
            raise ArmError(400, "BadRequest", f"{name} is {query.get(name)!r}; the local Azure ML has {only} alone.")
    namespace = query.get("metricnamespace", "").lower()
    if namespace not in DIMENSIONS:
        raise ArmError(400, "BadRequest", f"The local Azure ML has no metrics in namespace '{namespace}'.")
    start, end = (instant(query.get(name, "")).replace(second=0, microsecond=0) for name in ("starttime", "endtime"))
    top, split = int(query.get("top") or TOP), read_filter(query.get("filter", ""), DIMENSIONS[namespace])
    ids = call.json().get("resourceids") or []
    common = {
        "starttime": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "endtime": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "interval": "PT1M",
        "namespace": query["metricnamespace"],
        "resourceregion": call.emulator.settings.region,
    }
    values = []
    for resource in ids:
        samples = _samples(call, resource, namespace, start, end)
        series = _series(samples, split, range(int(start.timestamp() // 60), int(end.timestamp() // 60)))
        values.append({**common, "resourceid": resource, "value": [_metric(resource, series[:top])]})
    return JSONResponse({"values": values})


Filter = dict[str, frozenset[str] | None]  # dimension -> its values, None for all


def read_filter(text: str, dimensions: Sequence[str]) -> Filter:
    """`A eq 'x' or A eq 'y' and B eq '*'`: the dimensions that are split by. ArmError 400 for anything else."""
    found: Filter = {}
    for group in text.split(" and ") if text else []:
        terms = [TERM.fullmatch(term.strip()) for term in group.split(" or ")]
        names = {term[1].lower() if term else "" for term in terms}
        if len(names) != 1 or not names <= set(dimensions) or names & set(found):
            raise ArmError(400, "BadRequest", f"The filter '{group}' does not name one dimension of {dimensions}.")
        values = frozenset(term[2].lower() for term in terms if term)
        found[names.pop()] = None if "*" in values else values
    return found


Samples = Mapping[tuple[str, ...], Mapping[int, int]]  # the values of all dimensions -> requests by minute


def _samples(call: Call, resource: str, namespace: str, start: datetime, end: datetime) -> Samples:
    matched = RESOURCE.fullmatch(resource)
    of_deployments = len(DIMENSIONS[namespace]) == 1
    if matched is None or (matched["deployment"] is not None) != of_deployments:
        raise ArmError(400, "BadRequest", f"'{resource}' is not of the namespace '{namespace}'.")
    call.emulator.store.need(resource)
    traffic = runtime_of(call.emulator).traffic
    tallies = traffic.tallies(matched["endpoint"], start.timestamp(), min(end.timestamp(), visible_until()))
    samples: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    for tally in tallies:
        if of_deployments and tally.deployment == matched["deployment"].lower():
            samples[(_envoy_code(tally),)][tally.minute] += tally.requests
        elif not of_deployments and tally.deployment and not tally.mirrored:
            code, told = str(tally.status), str(tally.model_status or "")
            samples[tally.deployment, code, f"{code[0]}xx", told][tally.minute] += tally.requests
    return samples


def _envoy_code(tally: Tally) -> str:
    """The container's own code; where it was not asked or did not answer, what the client got (0: nobody got any)."""
    return str(tally.model_status or tally.status)


Series = list[tuple[dict[str, str], list[dict[str, Any]]]]


def _series(samples: Samples, split: Filter, minutes: range) -> Series:
    """One series for each combination of the values that are split by, the busiest first."""
    pooled: dict[tuple[str, ...], dict[int, list[int]]] = {}
    for values, by_minute in samples.items():
        named = dict(zip(_names(values), values, strict=True))
        if any(only is not None and named[name].lower() not in only for name, only in split.items()):
            continue
        pool = pooled.setdefault(tuple(named[name] for name in split), defaultdict(list))
        for at, requests in by_minute.items():
            pool[at].append(requests)
    stamps = {at: f"{datetime.fromtimestamp(at * 60, UTC):%Y-%m-%dT%H:%M:%SZ}" for at in minutes}
    found = []
    for values, pool in sorted(pooled.items(), key=lambda item: -sum(map(sum, item[1].values()))):
        means = {at: {"average": sum(pool[at]) / len(pool[at])} for at in pool}
        points = [{"timeStamp": stamp, **means.get(at, {})} for at, stamp in stamps.items()]
        found.append((dict(zip(split, values, strict=True)), points))
    return found


def _names(values: tuple[str, ...]) -> Sequence[str]:
    return next(names for names in DIMENSIONS.values() if len(names) == len(values))


def _metric(resource: str, series: Series) -> dict[str, Any]:
    return {
        "id": f"{resource}/providers/Microsoft.Insights/metrics/{METRIC}",
        "type": "Microsoft.Insights/metrics",
        "name": {"value": METRIC, "localizedValue": "Requests Per Minute"},
        "displayDescription": "The number of requests sent within a minute",
        "unit": "Count",
        "errorCode": "Success",
        "timeseries": [
            {
                "metadatavalues": [
                    {"name": {"value": name, "localizedValue": name}, "value": value} for name, value in values.items()
                ],
                "data": points,
            }
            for values, points in series
        ],
    }
