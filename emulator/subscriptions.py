"""Above the workspace: the subscription, its tenant, resource groups, and the description of the cloud itself."""

from __future__ import annotations

import re

from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.resources import answer, answer_list
from emulator.routing import ARM, GROUP, Call, route
from emulator.store import Resource, Store

GROUP_NAME = re.compile(r"[-\w._()]{1,89}[-\w_()]", re.ASCII)
SUBSCRIPTION = r"/subscriptions/(?P<sub>[^/]+)"


def need_group(store: Store, sub: str, name: str) -> Resource:
    """The resource group, or ArmError 404 as ARM words it."""
    group = store.get(f"/subscriptions/{sub}/resourceGroups/{name}")
    if group is None:
        raise ArmError(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")
    return group


@route("GET", ARM, r"/metadata/endpoints", audience=None)
def metadata(call: Call) -> Response:
    """The AzureCloud entry of the cloud metadata, which azureml-mlflow reads before it logs in."""
    audiences = ["https://management.core.windows.net/", "https://management.azure.com/"]
    login = {"loginEndpoint": "https://login.microsoftonline.com/", "audiences": audiences, "tenant": "common"}
    cloud = {
        "name": "AzureCloud",
        "portal": "https://portal.azure.com",
        "resourceManager": f"{call.emulator.settings.arm}/",
        "authentication": {**login, "identityProvider": "AAD"},
        "suffixes": {"storage": "core.windows.net"},
    }
    return JSONResponse([cloud])


def _subscription(call: Call) -> dict[str, object]:
    settings = call.emulator.settings
    return {
        "id": f"/subscriptions/{settings.subscription_id}",
        "subscriptionId": settings.subscription_id,
        "tenantId": settings.tenant_id,
        "displayName": "Local Azure ML",
        "state": "Enabled",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
    }


@route("GET", ARM, r"/subscriptions")
def subscriptions(call: Call) -> Response:
    return JSONResponse({"value": [_subscription(call)], "count": {"type": "Total", "value": 1}})


@route("GET", ARM, SUBSCRIPTION)
def subscription(call: Call) -> Response:
    return JSONResponse(_subscription(call))


@route("GET", ARM, r"/tenants")
def tenants(call: Call) -> Response:
    tenant = call.emulator.settings.tenant_id
    return JSONResponse({"value": [{"id": f"/tenants/{tenant}", "tenantId": tenant, "displayName": "Local Azure ML"}]})


@route("GET", ARM, SUBSCRIPTION + r"/resourceGroups")
def list_groups(call: Call) -> Response:
    return answer_list(call.emulator.store.children(f"/subscriptions/{call.args['sub']}/resourceGroups"))


@route("GET|HEAD", ARM, GROUP)
def get_group(call: Call) -> Response:
    if call.method == "HEAD":
        return Response(status_code=204 if call.emulator.store.get(call.args["rgid"]) else 404)
    return answer(need_group(call.emulator.store, call.args["sub"], call.args["rg"]))


@route("PUT|PATCH", ARM, GROUP)
def put_group(call: Call) -> Response:
    store, body, name = call.emulator.store, call.json(), call.args["rg"]
    old = store.get(call.args["rgid"])
    if call.method == "PATCH":
        old = need_group(store, call.args["sub"], name)
        body = {"location": old["location"], **body}
    if not GROUP_NAME.fullmatch(name):
        raise ArmError(400, "InvalidParameter", f"Resource group name '{name}' is not valid.")
    if not body.get("location"):
        raise ArmError(400, "LocationRequired", "The location property is required for this definition.")
    if old and old["location"].lower() != body["location"].lower():
        message = f"The resource group '{name}' already exists in location '{old['location']}'."
        raise ArmError(409, "InvalidResourceGroupLocation", message)
    resource = {
        "id": old["id"] if old else call.path.rstrip("/").replace("/resourcegroups/", "/resourceGroups/"),
        "name": old["name"] if old else name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": body["location"].lower().replace(" ", ""),
        "tags": body.get("tags") or (old or {}).get("tags") or {},
        "properties": {"provisioningState": "Succeeded"},
    }
    return answer(store.put(call.args["rgid"], resource), 200 if old else 201)


@route("DELETE", ARM, GROUP)
def delete_group(call: Call) -> Response:
    """Everything in it goes too, except that workspaces must go first: they own running processes."""
    store, group = call.emulator.store, call.args["rgid"]
    need_group(store, call.args["sub"], call.args["rg"])
    if store.children(f"{group}/providers/Microsoft.MachineLearningServices/workspaces"):
        message = (
            f"Resource group '{call.args['rg']}' still has workspaces; the local Azure ML wants them deleted first."
        )
        raise ArmError(409, "ResourceGroupDeletionBlocked", message)
    headers = call.emulator.operations.start(call, "group", lambda: store.delete(group))
    return Response(status_code=202, headers={name: value for name, value in headers.items() if "Async" not in name})
