"""Datastores: names for blob containers. A workspace is born with two; more can be registered."""

from __future__ import annotations

import re

from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.resources import PROVIDER, answer, answer_list, system_data
from emulator.routing import ARM, WORKSPACE, Call, route
from emulator.storage import container_of
from emulator.store import Resource

DATASTORE = WORKSPACE + r"/datastores/(?P<name>[^/]+)"
BORN_WITH = ("workspaceblobstore", "workspaceartifactstore")
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_]{0,254}")


def _resource(call: Call, wsid: str, name: str, container: str, old: Resource | None = None) -> Resource:
    return {
        "id": f"{wsid}/datastores/{name}",
        "name": name,
        "type": f"{PROVIDER}/workspaces/datastores",
        "systemData": system_data(call, old),
        "properties": {
            "datastoreType": "AzureBlob",
            "accountName": call.emulator.settings.storage_account,
            "containerName": container,
            "endpoint": "core.windows.net",
            "protocol": "https",
            "isDefault": name == BORN_WITH[0],
            "serviceDataAccessAuthIdentity": "None",
            "credentials": {"credentialsType": "AccountKey"},
            "tags": {},
            "properties": None,
            "description": None,
        },
    }


def make_default_datastores(call: Call, workspace: Resource) -> None:
    for name in BORN_WITH:
        container = container_of(workspace, name)
        call.emulator.storage.ensure_container(container)
        resource = _resource(call, workspace["id"], name, container)
        call.emulator.store.put(resource["id"], resource)


def need(call: Call) -> Resource:
    found = call.emulator.store.get(f"{call.args['wsid']}/datastores/{call.args['name']}")
    if found is None:
        call.emulator.store.need(call.args["wsid"], "Workspace")
        raise ArmError(404, "UserError", f"Could not find datastore: {call.args['name']}.")
    return found


@route("GET", ARM, WORKSPACE + r"/datastores")
def list_all(call: Call) -> Response:
    call.emulator.store.need(call.args["wsid"], "Workspace")
    found = call.emulator.store.children(f"{call.args['wsid']}/datastores")
    if call.query.get("isDefault", "").lower() == "true":
        found = [each for each in found if each["properties"]["isDefault"]]
    return answer_list(found)


@route("GET", ARM, DATASTORE)
def get(call: Call) -> Response:
    return answer(need(call))


@route("POST", ARM, DATASTORE + r"/listSecrets")
def list_secrets(call: Call) -> Response:
    """The account key, for every datastore: the SDK signs a SAS with it to stream a job's log."""
    need(call)
    return JSONResponse({"secretsType": "AccountKey", "key": call.emulator.settings.storage_key})


@route("PUT", ARM, DATASTORE)
def put(call: Call) -> Response:
    """Register a container of the emulator's own account; there is no other account to point at."""
    wsid, name, wanted = call.args["wsid"], call.args["name"], call.json().get("properties") or {}
    call.emulator.store.need(wsid, "Workspace")
    account = call.emulator.settings.storage_account
    if not NAME.fullmatch(name) or wanted.get("datastoreType") != "AzureBlob" or wanted.get("accountName") != account:
        message = f"Datastore '{name}' must be an AzureBlob datastore on the account '{account}' in the local Azure ML."
        raise ArmError(400, "UserError", message)
    old = call.emulator.store.get(f"{wsid}/datastores/{name}")
    call.emulator.storage.ensure_container(wanted["containerName"])
    resource = _resource(call, wsid, name, wanted["containerName"], old)
    return answer(call.emulator.store.put(resource["id"], resource), 200 if old else 201)


@route("DELETE", ARM, DATASTORE)
def delete(call: Call) -> Response:
    if call.args["name"].lower() in BORN_WITH:
        raise ArmError(400, "UserError", f"The default datastore '{call.args['name']}' cannot be deleted.")
    call.emulator.store.delete(f"{call.args['wsid']}/datastores/{call.args['name']}")
    return Response(status_code=200)
