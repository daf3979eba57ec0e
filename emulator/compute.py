"""Compute clusters. They cost nothing and have no nodes here, but their settings are checked and kept."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from emulator.errors import ArmError
from emulator.fault_injection import break_cluster
from emulator.resources import PROVIDER, answer, answer_list, system_data, utc_now
from emulator.routing import ARM, WORKSPACE, Call, route
from emulator.store import Resource

COMPUTE = WORKSPACE + r"/computes/(?P<name>[^/]+)"
NAME = re.compile(r"[a-zA-Z](?![a-zA-Z0-9-]*-\d+$)[a-zA-Z0-9\-]{2,23}")  # the service's own pattern
SIZE = re.compile(r"standard_[a-z]+\d\w*", re.IGNORECASE)
IDLE = {
    **{"idleNodeCount": 0, "runningNodeCount": 0, "preparingNodeCount": 0},
    **{"unusableNodeCount": 0, "leavingNodeCount": 0, "preemptedNodeCount": 0},
}


def check(call: Call, name: str, properties: dict[str, Any], old: Resource | None) -> None:
    """ArmError 400 for what the service would refuse: a name, a size, node counts, a change of size."""
    inner = properties.get("properties") or {}
    size, scale = inner.get("vmSize") or "", inner.get("scaleSettings") or {}
    least, most = scale.get("minNodeCount") or 0, scale.get("maxNodeCount", 1)
    problems = {
        f"Compute name '{name}' is not valid: 3 to 24 characters of A-Z a-z 0-9 -, a letter first.": not NAME.fullmatch(
            name
        ),
        f"Compute type '{properties.get('computeType')}' is not offered by the local Azure ML, only AmlCompute.": (
            properties.get("computeType") != "AmlCompute"
        ),
        f"VM size '{size}' is not valid.": not SIZE.fullmatch(size),
        f"Node counts must be 0 <= min ({least}) <= max ({most}).": not 0 <= least <= most,
    }
    for message, wrong in problems.items():
        if wrong:
            raise ArmError(400, "BadRequest", message)
    before = old["properties"]["properties"]["vmSize"] if old else size
    if before.lower() != size.lower():
        message = f"The VM size of compute '{name}' is {before} and cannot be changed; delete it first."
        raise ArmError(400, "ComputeUpdateNotSupported", message)
    for identity in (call.json().get("identity") or {}).get("userAssignedIdentities") or {}:
        if call.emulator.store.get(identity) is None:
            raise ArmError(400, "FailedIdentityOperation", f"The user-assigned identity '{identity}' was not found.")


@route("PUT", ARM, COMPUTE)
def put(call: Call) -> Response:
    store, wsid, name = call.emulator.store, call.args["wsid"], call.args["name"]
    workspace, path, body = store.need(wsid, "Workspace"), f"{wsid}/computes/{name}", call.json()
    properties, old = body.get("properties") or {}, store.get(path)
    check(call, name, properties, old)
    now = utc_now()
    nodes = {"allocationState": "Steady", "currentNodeCount": 0, "targetNodeCount": 0, "nodeStateCounts": IDLE}
    resource = {
        "id": path,
        "name": name,
        "type": f"{PROVIDER}/workspaces/computes",
        "location": body.get("location") or workspace["location"],
        "tags": body.get("tags"),
        "identity": body.get("identity"),
        "systemData": system_data(call, old),
        "properties": {
            **properties,
            "properties": {**(properties.get("properties") or {}), **nodes},
            "provisioningState": "Updating" if old else "Creating",
            "createdOn": old["properties"]["createdOn"] if old else now,
            "modifiedOn": now,
            "isAttachedCompute": False,
            "provisioningErrors": None,
            "computeLocation": body.get("location") or workspace["location"],
        },
    }
    stored, broken = store.put(path, resource), break_cluster(call)

    def work() -> None:
        if broken is None:
            store.update(path, lambda found: found["properties"].update(provisioningState="Succeeded"))
            return
        errors = [broken.body()]
        ended = {"provisioningState": "Failed", "provisioningErrors": errors}
        store.update(path, lambda found: found["properties"].update(ended))
        raise broken

    headers = call.emulator.operations.start(call, "compute", work)
    return answer(stored, 200 if old else 201, headers)


@route("GET", ARM, COMPUTE)
def get(call: Call) -> Response:
    return answer(call.emulator.store.need(f"{call.args['wsid']}/computes/{call.args['name']}", "Compute"))


@route("GET", ARM, WORKSPACE + r"/computes")
def list_all(call: Call) -> Response:
    call.emulator.store.need(call.args["wsid"], "Workspace")
    return answer_list(call.emulator.store.children(f"{call.args['wsid']}/computes"))


@route("DELETE", ARM, COMPUTE)
def delete(call: Call) -> Response:
    store, path = call.emulator.store, f"{call.args['wsid']}/computes/{call.args['name']}"
    store.need(path, "Compute")
    store.update(path, lambda found: found["properties"].update(provisioningState="Deleting"))
    return Response(
        status_code=202, headers=call.emulator.operations.start(call, "compute", lambda: store.delete(path))
    )
