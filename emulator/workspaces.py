"""Workspaces: made by the SDK through an ARM template deployment, or by a plain PUT; read, updated, listed, deleted."""

from __future__ import annotations

import re
import uuid
from typing import Any

from starlette.responses import JSONResponse, Response

from emulator import providers
from emulator.datastores import make_default_datastores
from emulator.errors import ArmError
from emulator.generic import make
from emulator.operations import POLL_SECONDS, RETRY
from emulator.resources import PROVIDER, answer, answer_list, system_data, utc_now
from emulator.routing import ARM, GROUP, WORKSPACE, Call, route
from emulator.store import Resource
from emulator.subscriptions import need_group

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}")
DEPLOYMENT = GROUP + r"/providers/Microsoft\.Resources/deployments/(?P<name>[^/]+)"
LIST = rf"/providers/{re.escape(PROVIDER)}/workspaces"
REGISTRY = "Microsoft.ContainerRegistry/registries"
# Of whom the SDK's template makes something beside the workspace.
TEMPLATE = (PROVIDER, *(f"Microsoft.{name}" for name in ("Storage", "KeyVault", "OperationalInsights", "Insights")))
# What a PUT or PATCH may set; the rest of a workspace's properties is the service's to fill in.
SETTABLE = (
    *("friendlyName", "description", "publicNetworkAccess", "imageBuildCompute", "primaryUserAssignedIdentity"),
    "containerRegistry",
)


def make_workspace(call: Call, wsid: str, body: dict[str, Any]) -> Resource:
    """Create the workspace with its containers and datastores, as if every part of it had been provisioned."""
    settings, store = call.emulator.settings, call.emulator.store
    _, _, sub, _, group, *_, name = wsid.split("/")
    guid = str(uuid.uuid5(uuid.NAMESPACE_URL, wsid.lower()))
    parts = f"/subscriptions/{sub}/resourceGroups/{group}/providers"
    asked = {key: value for key, value in (body.get("properties") or {}).items() if key in SETTABLE and value}
    identity = {"type": "SystemAssigned", **(body.get("identity") or {})}
    if "SystemAssigned" in identity["type"]:
        identity |= {"principalId": guid, "tenantId": settings.tenant_id}
    resource = {
        "id": wsid,
        "name": name,
        "type": f"{PROVIDER}/workspaces",
        "location": body["location"],
        "tags": body.get("tags") or {},
        "kind": "Default",
        "sku": {"name": "Basic", "tier": "Basic"},
        "identity": identity,
        "systemData": system_data(call),
        "properties": {
            "friendlyName": name,
            "description": "",
            "publicNetworkAccess": "Enabled",
            **asked,
            "workspaceId": guid,
            "tenantId": settings.tenant_id,
            "provisioningState": "Succeeded",
            "storageAccount": f"{parts}/Microsoft.Storage/storageAccounts/{settings.storage_account}",
            "keyVault": f"{parts}/Microsoft.Keyvault/vaults/{name}-kv",
            "applicationInsights": f"{parts}/Microsoft.insights/components/{name}-ai",
            "discoveryUrl": f"{settings.api}/discovery",
            "mlFlowTrackingUri": f"azureml://{settings.region}.api.azureml.ms/mlflow/v1.0{wsid}",
            "systemDatastoresAuthMode": "accessKey",
            "hbiWorkspace": False,
            "v1LegacyMode": False,
        },
    }
    for kind in ("storageAccount", "keyVault", "applicationInsights"):
        make(call, resource["properties"][kind], location=body["location"], tags=resource["tags"])
    make_default_datastores(call, resource)
    return store.put(wsid, resource)


def check_new(call: Call, name: str, body: dict[str, Any]) -> None:
    """ArmError for a bad name, a missing group or location, an identity that does not exist, a region not emulated."""
    need_group(call.emulator.store, call.args["sub"], call.args["rg"])
    if not NAME.fullmatch(name):
        message = f"The workspace name '{name}' is not valid: 3 to 33 characters of A-Z a-z 0-9 _ -, no _ or - first."
        raise ArmError(400, "ValidationError", message)
    region = call.emulator.settings.region
    if (body.get("location") or "").lower().replace(" ", "") != region:
        message = f"Location '{body.get('location')}' is not available: the local Azure ML is in '{region}' alone."
        raise ArmError(400, "LocationNotAvailableForResourceType", message)
    registry = (body.get("properties") or {}).get("containerRegistry")
    if registry and call.emulator.store.get(registry) is None:
        raise ArmError(404, "ResourceNotFound", f"The container registry '{registry}' was not found.")
    for identity in (body.get("identity") or {}).get("userAssignedIdentities") or {}:
        if call.emulator.store.get(identity) is None:
            raise ArmError(400, "FailedIdentityOperation", f"The user-assigned identity '{identity}' was not found.")


@route("GET", ARM, WORKSPACE)
def get(call: Call) -> Response:
    return answer(call.emulator.store.need(call.args["wsid"], "Workspace"))


@route("PUT", ARM, WORKSPACE)
def put(call: Call) -> Response:
    body, wsid = call.json(), call.args["wsid"]
    check_new(call, call.args["ws"], body)

    def work() -> None:
        make_workspace(call, wsid, body)

    headers = call.emulator.operations.start(call, "workspace", work)
    pending = {**body, "id": wsid, "name": call.args["ws"], "type": f"{PROVIDER}/workspaces"}
    pending["properties"] = {**(body.get("properties") or {}), "provisioningState": "Creating"}
    return JSONResponse(pending, 201, headers=headers)


@route("PATCH", ARM, WORKSPACE)
def patch(call: Call) -> Response:
    body = call.json()
    asked = {key: value for key, value in (body.get("properties") or {}).items() if key in SETTABLE}

    def change(workspace: Resource) -> None:
        workspace["properties"].update(asked)
        workspace["tags"] = body.get("tags") or workspace["tags"]
        workspace["systemData"] = system_data(call, workspace)

    call.emulator.store.need(call.args["wsid"], "Workspace")
    return answer(call.emulator.store.update(call.args["wsid"], change))


@route("DELETE", ARM, WORKSPACE)
def delete(call: Call) -> Response:
    """The records go, the blobs stay, as in Azure when dependent resources are kept."""
    store, wsid = call.emulator.store, call.args["wsid"]
    if store.get(wsid) is None:
        return Response(status_code=204)
    if store.children(f"{wsid}/onlineEndpoints"):
        message = f"Workspace '{call.args['ws']}' has online endpoints; delete them first."
        raise ArmError(409, "WorkspaceHasDependentResources", message)
    return Response(
        status_code=202, headers=call.emulator.operations.start(call, "workspace", lambda: store.delete(wsid))
    )


@route("GET", ARM, GROUP + LIST)
def list_in_group(call: Call) -> Response:
    need_group(call.emulator.store, call.args["sub"], call.args["rg"])
    return answer_list(call.emulator.store.children(f"{call.args['rgid']}/providers/{PROVIDER}/workspaces"))


@route("GET", ARM, r"/subscriptions/(?P<sub>[^/]+)" + LIST)
def list_in_subscription(call: Call) -> Response:
    return answer_list(call.emulator.store.find(rf"/subscriptions/[^/]+/resourcegroups/[^/]+{LIST}/[^/]+"))


# An ARM template deployment. Only the SDK's workspace template is understood, and of it only the parameters.


@route("PUT", ARM, DEPLOYMENT)
def deploy(call: Call) -> Response:
    """Start the deployment and wait a moment: one that ends within it is answered as finished, which ARM allows.

    The SDK sleeps five seconds at a time while a workspace deployment runs, so a short one is best over at once.
    """
    template = call.json().get("properties") or {}
    given = {name: value.get("value") for name, value in (template.get("parameters") or {}).items()}
    if not given.get("workspaceName"):
        message = "The local Azure ML deploys the SDK's workspace template only: parameter workspaceName is missing."
        raise ArmError(400, "InvalidTemplate", message)
    names = {"friendlyName": "friendlyName", "description": "description", "publicNetworkAccess": "publicNetworkAccess"}
    properties = {key: given.get(name) for key, name in names.items()}
    if given.get("containerRegistryOption") == "existing":
        where = given.get("containerRegistryResourceGroupName") or call.args["rg"]
        path = f"/subscriptions/{call.args['sub']}/resourceGroups/{where}/providers/{REGISTRY}"
        properties["containerRegistry"] = f"{path}/{given['containerRegistryName']}"
    body = {
        "location": given.get("location"),
        "tags": given.get("tagValues"),
        "identity": given.get("identity"),
        "properties": properties,
    }
    check_new(call, given["workspaceName"], body)
    for namespace in TEMPLATE:
        providers.need(call, namespace)
    wsid = f"{call.args['rgid']}/providers/{PROVIDER}/workspaces/{given['workspaceName']}"
    wsid = wsid.replace("/resourcegroups/", "/resourceGroups/")
    deployment, store, operations = call.path.rstrip("/"), call.emulator.store, call.emulator.operations
    shown = {"timestamp": utc_now(), "mode": "Incremental", "correlationId": str(uuid.uuid4()), "duration": "PT1.0S"}
    resource = {"id": deployment, "name": call.args["name"], "type": "Microsoft.Resources/deployments", "_wsid": wsid}
    store.put(deployment, {**resource, "properties": {**shown, "provisioningState": "Running"}})

    def work() -> None:
        make_workspace(call, wsid, body)
        store.update(deployment, lambda found: found["properties"].update(provisioningState="Succeeded"))

    operation = operations.begin(f"{deployment}/operationStatuses", "deployment", work)
    operations.wait(operation, POLL_SECONDS)
    now = store.need(deployment)
    if now["properties"]["provisioningState"] == "Succeeded":
        return answer(now, 201)
    url = f"{call.emulator.settings.arm}{deployment}/operationStatuses/{operation}?api-version=2020-06-01"
    return answer(now, 201, {"Azure-AsyncOperation": url, **RETRY})


@route("GET", ARM, DEPLOYMENT + r"/operationStatuses/(?P<operation>[^/]+)")
def deployment_status(call: Call) -> Response:
    call.emulator.operations.wait(call.args["operation"])
    operation = call.emulator.store.need(call.path, "Operation")
    return JSONResponse({key: operation[key] for key in ("status", "error") if key in operation}, headers=RETRY)


@route("GET", ARM, DEPLOYMENT)
def get_deployment(call: Call) -> Response:
    return answer(call.emulator.store.need(call.path, "Deployment"))


@route("GET", ARM, GROUP + r"/deployments/(?P<name>[^/]+)/operations")
def deployment_operations(call: Call) -> Response:
    """The steps of a deployment (this path has no provider segment, in Azure too): one, the workspace."""
    path = f"{call.args['rgid']}/providers/Microsoft.Resources/deployments/{call.args['name']}"
    deployment = call.emulator.store.need(path, "Deployment")
    wsid, state = deployment["_wsid"], deployment["properties"]["provisioningState"]
    target = {"id": wsid, "resourceType": f"{PROVIDER}/workspaces", "resourceName": wsid.rsplit("/", 1)[-1]}
    step = {"provisioningOperation": "Create", "provisioningState": state, "statusCode": "OK", "targetResource": target}
    step |= {"timestamp": deployment["properties"]["timestamp"], "duration": "PT1S"}
    value = {"id": f"{deployment['id']}/operations/1", "operationId": "1", "properties": step}
    return JSONResponse({"value": [value]})
