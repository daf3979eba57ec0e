"""Autoscale settings (azure-mgmt-monitor): checked as Azure checks them, kept, and never carried out.

https://learn.microsoft.com/rest/api/monitor/autoscale-settings/create-or-update
"""

from __future__ import annotations

from typing import Any

import isodate
from starlette.responses import Response

from emulator.errors import ArmError
from emulator.resources import PROVIDER, answer, answer_list, system_data
from emulator.routing import ARM, GROUP, Call, route
from emulator.store import Resource
from emulator.subscriptions import need_group

KIND = "Microsoft.Insights/autoscalesettings"
ALL = GROUP + r"/providers/Microsoft\.Insights/autoscalesettings"
ONE = ALL + r"/(?P<name>[^/]+)"
TARGET = f"{PROVIDER}/workspaces/onlineEndpoints/deployments"
# https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/metrics-index
METRICS = {
    "CpuUtilizationPercentage",
    "CpuMemoryUtilizationPercentage",
    "DiskUtilization",
    "GpuUtilizationPercentage",
    "GpuMemoryUtilizationPercentage",
    "DeploymentCapacity",
}
DIRECTIONS = ("Increase", "Decrease")


@route("GET", ARM, ALL)
def list_all(call: Call) -> Response:
    return answer_list(call.emulator.store.children(f"{call.args['rgid']}/providers/{KIND}"))


@route("GET", ARM, ONE)
def get(call: Call) -> Response:
    return answer(call.emulator.store.need(call.path, "Autoscale setting"))


@route("PUT", ARM, ONE)
def put(call: Call) -> Response:
    store, body = call.emulator.store, call.json()
    need_group(store, call.args["sub"], call.args["rg"])
    properties = body.get("properties") or {}
    target = store.get(str(properties.get("targetResourceUri") or ""))
    _refuse(target is None or target["type"] != TARGET, "targetResourceUri is no resource that can be scaled.")
    profiles = properties.get("profiles") or []
    _refuse(not 1 <= len(profiles) <= 20, "An autoscale setting has 1 to 20 profiles.")
    for profile in profiles:
        _check(profile, target["id"] if target else "")
    old = store.get(call.path)
    kept: Resource = {
        "id": call.path.rstrip("/"),
        "name": call.args["name"],
        "type": KIND,
        "location": body.get("location"),
        "tags": body.get("tags") or {},
        "systemData": system_data(call, old),
        "properties": {"enabled": False, "notifications": [], **properties, "name": call.args["name"]},
    }
    return answer(store.put(call.path, kept), 200 if old else 201)


@route("DELETE", ARM, ONE)
def delete(call: Call) -> Response:
    existed = call.emulator.store.get(call.path)
    call.emulator.store.delete(call.path)
    return Response(status_code=200 if existed else 204)


def _check(profile: dict[str, Any], target: str) -> None:
    capacity = profile.get("capacity") or {}
    try:
        least, most, usual = (int(capacity[key]) for key in ("minimum", "maximum", "default"))
    except (KeyError, ValueError, TypeError):
        raise ArmError(400, "BadRequest", "capacity needs minimum, maximum and default.") from None
    _refuse(not 1 <= least <= usual <= most, "capacity: minimum, default and maximum must rise.")
    for rule in profile.get("rules") or []:
        trigger, action = rule.get("metricTrigger") or {}, rule.get("scaleAction") or {}
        name = trigger.get("metricName")
        _refuse(name not in METRICS, f"Metric {name} is not one of a deployment.")
        _refuse(str(trigger.get("metricResourceUri")).lower() != target.lower(), f"{name} is of another resource.")
        window = isodate.parse_duration(str(trigger.get("timeWindow"))).total_seconds()
        _refuse(not 300 <= window <= 43_200, "timeWindow must be 5 minutes to 12 hours.")
        _refuse(action.get("direction") not in DIRECTIONS, f"direction must be one of {', '.join(DIRECTIONS)}.")
        rest = isodate.parse_duration(str(action.get("cooldown"))).total_seconds()
        _refuse(not 60 <= rest <= 604_800, "cooldown must be 1 minute to 1 week.")


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise ArmError(400, "BadRequest", message)
