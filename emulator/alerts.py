"""Action groups and metric alerts (azure-mgmt-monitor): checked as Azure checks them, kept, and never fired.

https://learn.microsoft.com/rest/api/monitor/metric-alerts/create-or-update
"""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from emulator.errors import ArmError
from emulator.resources import PROVIDER, answer, answer_list
from emulator.routing import ARM, GROUP, Call, route
from emulator.store import Resource
from emulator.subscriptions import need_group

KINDS = {"actiongroups": "Microsoft.Insights/actionGroups", "metricalerts": "Microsoft.Insights/metricAlerts"}
ALL = GROUP + r"/providers/Microsoft\.Insights/(?P<kind>actionGroups|metricAlerts)"
ONE = ALL + r"/(?P<name>[^/]+)"
SINGLE = "Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria"
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
SHORT_NAME = 12
MINUTES = {"PT1M": 1, "PT5M": 5, "PT15M": 15, "PT30M": 30, "PT1H": 60, "PT6H": 360, "PT12H": 720, "P1D": 1440}
OPERATORS = ("Equals", "GreaterThan", "GreaterThanOrEqual", "LessThan", "LessThanOrEqual")
MEAN, COUNTED = ("Average",), ("Average", "Maximum", "Minimum", "Total")
RANGE = ("Average", "Maximum", "Minimum")
JOB = ("Scenario", "RunType", "PublishedPipelineId", "ComputeType", "PipelineStepType", "ExperimentName")
# Metrics by the type of resource: their aggregations and dimensions, as far as a release train may want them.
# https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/metrics-index
METRICS: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    f"{PROVIDER}/workspaces/onlineEndpoints": {
        "RequestsPerMinute": (MEAN, ("deployment", "statusCode", "statusCodeClass", "modelStatusCode")),
        **{f"RequestLatency{part}": (MEAN, ("deployment",)) for part in ("", "_P50", "_P90", "_P95", "_P99")},
        "DataCollectionErrorsPerMinute": (RANGE, ("deployment", "reason", "type")),
        "ConnectionsActive": (MEAN, ()),
    },
    f"{PROVIDER}/workspaces": {
        "Failed Runs": ((*COUNTED, "Count"), JOB),
        "Unusable Nodes": (COUNTED, ("Scenario", "ClusterName")),
        "Quota Utilization Percentage": (COUNTED, ("Scenario", "ClusterName", "VmFamilyName", "VmPriority")),
    },
}


@route("GET", ARM, ALL)
def list_all(call: Call) -> Response:
    kind = KINDS[call.args["kind"].lower()]
    return answer_list(call.emulator.store.children(f"{call.args['rgid']}/providers/{kind}"))


@route("GET", ARM, ONE)
def get(call: Call) -> Response:
    return answer(call.emulator.store.need(call.path, "Alert"))


@route("PUT", ARM, ONE)
def put(call: Call) -> Response:
    store, body, kind = call.emulator.store, call.json(), KINDS[call.args["kind"].lower()]
    need_group(store, call.args["sub"], call.args["rg"])
    properties, old = body.get("properties") or {}, store.get(call.path)
    if str(body.get("location", "")).lower() != "global":
        raise ArmError(400, "LocationNotAvailableForResourceType", f"{kind} is available in 'global' alone.")
    if kind == KINDS["actiongroups"]:
        properties = _action_group(properties)
    else:
        _check_alert(call, properties)
    shown = {"id": call.path.rstrip("/"), "name": call.args["name"], "type": kind, "location": body["location"]}
    kept: Resource = {**shown, "tags": body.get("tags") or {}, "properties": properties}
    return answer(store.put(call.path, kept), 201 if kind == KINDS["actiongroups"] and not old else 200)


@route("DELETE", ARM, ONE)
def delete(call: Call) -> Response:
    existed = call.emulator.store.get(call.path)
    call.emulator.store.delete(call.path)
    return Response(status_code=200 if existed else 204)


def _action_group(properties: dict[str, Any]) -> dict[str, Any]:
    """What is kept; whether a receiver is enabled is not the caller's to say. ArmError 400 for what Azure refuses."""
    short, receivers = str(properties.get("groupShortName") or ""), properties.get("emailReceivers") or []
    names = [str(each.get("name")) for each in receivers]
    _refuse(not 1 <= len(short) <= SHORT_NAME, f"groupShortName '{short}' must have 1 to {SHORT_NAME} characters.")
    _refuse(len(set(names)) < len(names), "The names of the receivers must be unique.")
    for each in receivers:
        address = str(each.get("emailAddress"))
        _refuse(not EMAIL.fullmatch(address), f"'{address}' is not a valid email address.")
    return {**properties, "emailReceivers": [{**each, "status": "Enabled"} for each in receivers]}


def _check_alert(call: Call, properties: dict[str, Any]) -> None:
    """ArmError 400 for a resource, a metric, a dimension or a time that there is not."""
    every, window = (MINUTES.get(properties.get(key, "")) for key in ("evaluationFrequency", "windowSize"))
    _refuse(
        not (every and window and every <= window and every <= 60), "evaluationFrequency and windowSize: not valid."
    )
    _refuse(properties.get("severity") not in range(5), "severity must be 0 to 4.")
    criteria, scopes = properties.get("criteria") or {}, properties.get("scopes") or []
    _refuse(criteria.get("odata.type") != SINGLE or len(scopes) != 1, "Alerts here are on one resource.")
    _refuse(not criteria.get("allOf"), "criteria.allOf must have one element at least.")
    found = call.emulator.store.get(scopes[0])
    _refuse(found is None, f"Scope '{scopes[0]}' is not valid: the resource was not found.")
    for each in criteria["allOf"]:
        _check_criterion(each, found["type"] if found else "")


def _check_criterion(given: dict[str, Any], kind: str) -> None:
    name = given.get("metricName")
    known = next((metrics for each, metrics in METRICS.items() if each.lower() == kind.lower()), {})
    _refuse(name not in known, f"Couldn't find a metric named {name}. Make sure the metric name is correct.")
    aggregations, dimensions = known[str(name)]
    _refuse(given.get("metricNamespace", kind).lower() != kind.lower(), f"{name} is not in that namespace.")
    _refuse(given.get("timeAggregation") not in aggregations, f"{name} has no {given.get('timeAggregation')}.")
    _refuse(given.get("operator") not in OPERATORS, f"operator must be one of {', '.join(OPERATORS)}.")
    _refuse(not isinstance(given.get("threshold"), int | float), "threshold must be a number.")
    for each in given.get("dimensions") or []:
        _refuse(each.get("name") not in dimensions, f"{name} has no dimension {each.get('name')}.")


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise ArmError(400, "BadRequest", message)
