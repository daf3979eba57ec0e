"""What stands beside a workspace: its storage, key vault, insights and registry; Log Analytics.

They do nothing here, but they have an id on which roles are given, they are listed, and they can be deleted.
"""

from __future__ import annotations

import re

from starlette.responses import Response

from emulator.errors import ArmError
from emulator.monitor_logs import WORKSPACE as LOG
from emulator.monitor_logs import resource_id as log_id
from emulator.resources import answer, answer_list, system_data
from emulator.roles import may
from emulator.routing import ARM, GROUP, Call, route
from emulator.store import Resource
from emulator.subscriptions import SUBSCRIPTION, need_group

KINDS = (
    "Microsoft.ContainerRegistry/registries",
    "Microsoft.Storage/storageAccounts",
    "Microsoft.KeyVault/vaults",
    "Microsoft.Insights/components",
    "Microsoft.OperationalInsights/workspaces",
)
RESOURCE = GROUP + rf"/providers/(?P<kind>{'|'.join(re.escape(kind) for kind in KINDS)})/(?P<name>[^/]+)"
SETTINGS = r"(?P<target>/subscriptions/(?P<sub>[^/]+)/.*)/providers/Microsoft\.Insights/diagnosticSettings"
REGISTRY_NAME = re.compile(r"[a-zA-Z0-9]{5,50}")
TOP_LEVEL = r"/subscriptions/[^/]+/resourcegroups/(?:[^/]+)/providers/[^/]+/[^/]+/[^/]+"
CATEGORIES = ("AmlOnlineEndpointTrafficLog", "AmlOnlineEndpointConsoleLog", "AmlOnlineEndpointEventLog")


def log_workspace(call: Call) -> Resource:
    """The one Log Analytics workspace, there from the start, as a team has one for all it runs."""
    place = log_id(call)
    properties = {"customerId": LOG, "provisioningState": "Succeeded"}
    kept = {"id": place, "name": "log-all", "type": KINDS[-1], "location": call.emulator.settings.region, "tags": {}}
    return {**kept, "properties": properties}


def make(call: Call, resource_id: str, *, location: str, tags: dict[str, str] | None = None) -> None:
    """One of KINDS, as a workspace's template makes it; one that is there stays."""
    parts = resource_id.split("/")
    if call.emulator.store.get(resource_id) is None:
        shown = {"id": resource_id, "name": parts[-1], "type": "/".join(parts[-3:-1]), "location": location}
        properties = {"provisioningState": "Succeeded"}
        call.emulator.store.put(resource_id, {**shown, "tags": tags or {}, "properties": properties})


@route("GET", ARM, RESOURCE)
def get(call: Call) -> Response:
    log = log_workspace(call)
    if call.path.lower().rstrip("/") == log["id"].lower():
        return answer(log)
    found = call.emulator.store.get(call.path)
    if found is None:
        kind, name = call.args["kind"], call.args["name"]
        message = f"The Resource '{kind}/{name}' under resource group '{call.args['rg']}' was not found."
        raise ArmError(404, "ResourceNotFound", message)
    return answer(found)


@route("PUT|PATCH", ARM, RESOURCE)
def put(call: Call) -> Response:
    store, body, kind = call.emulator.store, call.json(), call.args["kind"]
    need_group(store, call.args["sub"], call.args["rg"])
    if kind.lower() == KINDS[0].lower() and not REGISTRY_NAME.fullmatch(call.args["name"]):
        message = f"The registry name '{call.args['name']}' is not valid: 5 to 50 letters and digits."
        raise ArmError(400, "InvalidResourceName", message)
    old = store.get(call.path)
    given = {"provisioningState": "Succeeded", **(body.get("properties") or {})}
    made = {
        **(old or {}),
        "id": call.path.rstrip("/"),
        "name": call.args["name"],
        "type": kind,
        "location": body.get("location") or (old or {}).get("location"),
        "tags": body.get("tags") or (old or {}).get("tags") or {},
        "systemData": system_data(call, old),
        "properties": given,
    }
    return answer(store.put(call.path, made), 200 if old else 201)


@route("DELETE", ARM, RESOURCE)
def delete(call: Call) -> Response:
    existed = call.emulator.store.get(call.path)
    call.emulator.store.delete(call.path)
    return Response(status_code=200 if existed else 204)


@route("GET", ARM, GROUP + r"/resources")
def list_in_group(call: Call) -> Response:
    need_group(call.emulator.store, call.args["sub"], call.args["rg"])
    return answer_list(_listed(call, call.args["rg"]))


@route("GET", ARM, SUBSCRIPTION + r"/resources")
def list_in_subscription(call: Call) -> Response:
    """Nobody is refused; everybody is shown what they may read."""
    every = [*_listed(call, ""), _line(log_workspace(call))]
    return answer_list([one for one in every if may(call, f"{one['type']}/read", one["id"])])


def _listed(call: Call, group: str) -> list[Resource]:
    """Resources as ARM lists them: without their properties, one kind alone when the filter says so."""
    wanted = re.search(r"resourceType eq '([^']+)'", call.query.get("$filter", ""))
    pattern = TOP_LEVEL.replace("(?:[^/]+)", re.escape(group)) if group else TOP_LEVEL
    every = [_line(one) for one in call.emulator.store.find(pattern) if one.get("location")]
    return [one for one in every if not wanted or one["type"].lower() == wanted[1].lower()]


def _line(resource: Resource) -> Resource:
    return {key: resource.get(key) for key in ("id", "name", "type", "location", "tags")}


# Diagnostic settings: where the log of a resource is sent.


@route("GET", ARM, SETTINGS)
def list_settings(call: Call) -> Response:
    return answer_list(call.emulator.store.children(call.path.rstrip("/")))


@route("GET", ARM, SETTINGS + r"/(?P<name>[^/]+)")
def get_setting(call: Call) -> Response:
    return answer(call.emulator.store.need(call.path, "Diagnostic setting"))


@route("PUT", ARM, SETTINGS + r"/(?P<name>[^/]+)")
def put_setting(call: Call) -> Response:
    store, wanted = call.emulator.store, call.json().get("properties") or {}
    store.need(call.args["target"])
    unknown = [log["category"] for log in wanted.get("logs") or [] if log.get("category") not in CATEGORIES]
    if unknown:
        raise ArmError(400, "BadRequest", f"Category '{unknown[0]}' is not supported.")
    log = str(wanted.get("workspaceId") or "")
    if log.lower() != log_workspace(call)["id"].lower() and store.get(log) is None:
        raise ArmError(400, "BadRequest", f"The workspace '{log}' of the diagnostic setting was not found.")
    made = {"id": call.path, "name": call.args["name"], "type": "Microsoft.Insights/diagnosticSettings"}
    return answer(store.put(call.path, {**made, "properties": wanted}))


@route("DELETE", ARM, SETTINGS + r"/(?P<name>[^/]+)")
def delete_setting(call: Call) -> Response:
    existed = call.emulator.store.get(call.path)
    call.emulator.store.delete(call.path)
    return Response(status_code=200 if existed else 204)
