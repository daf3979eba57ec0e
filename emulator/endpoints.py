"""Online endpoints as resources: create, traffic, mirror, keys, delete."""

from __future__ import annotations

import secrets
import time
from typing import Any

from starlette.responses import JSONResponse, Response

from emulator.backends import retire
from emulator.endpoint_rules import ENDPOINT_NAME, auth_mode, check_name, check_traffic, weights
from emulator.errors import ArmError
from emulator.fault_injection import pace, refuse_conflict
from emulator.fault_traffic import as_read, written
from emulator.identity import object_id
from emulator.resources import PROVIDER, answer, answer_list, system_data
from emulator.routing import ARM, WORKSPACE, Call, route
from emulator.runtime import runtime_of
from emulator.store import Resource

ENDPOINT = WORKSPACE + r"/onlineEndpoints/(?P<endpoint>[^/]+)"
TOKEN_SECONDS = 3600


def endpoint_id(call: Call) -> str:
    return f"{call.args['wsid']}/onlineEndpoints/{call.args['endpoint']}"


def scoring_origin(call: Call) -> str:
    return f"https://{call.args['endpoint'].lower()}.{call.emulator.settings.region}.inference.ml.azure.com"


@route("PUT", ARM, ENDPOINT)
def put(call: Call) -> Response:
    """Create or update: traffic and mirror traffic come this way too. Last write wins; there is no ETag."""
    with runtime_of(call.emulator).lock:
        return _put(call)


def _put(call: Call) -> Response:
    runtime, store, wanted_id = runtime_of(call.emulator), call.emulator.store, endpoint_id(call)
    store.need(call.args["wsid"], "Workspace")
    check_name(call.args["endpoint"], ENDPOINT_NAME, "Endpoint")
    body, old = call.json(), store.get(wanted_id)
    given = body.get("properties") or {}
    known = {item["name"].lower() for item in store.children(f"{wanted_id}/deployments")}
    traffic = weights(given.get("traffic"), known, "traffic")
    mirror = weights(given.get("mirrorTraffic"), known, "mirror traffic")
    check_traffic(traffic, mirror)
    if old is None:
        _check_free(call, wanted_id)
    refuse_conflict(call, wanted_id)
    new_keys = {"primaryKey": secrets.token_urlsafe(48), "secondaryKey": secrets.token_urlsafe(48)}
    origin = scoring_origin(call)
    resource: Resource = {
        "id": (old or {}).get("id", wanted_id),
        "name": (old or {}).get("name", call.args["endpoint"]),
        "type": f"{PROVIDER}/workspaces/onlineEndpoints",
        "location": body.get("location") or call.emulator.settings.region,
        "tags": body.get("tags") or {},
        "kind": body.get("kind") or "Managed",
        "identity": _identity(call, body.get("identity"), old),
        "systemData": system_data(call, old),
        "properties": {
            **{key: value for key, value in given.items() if value is not None and key != "keys"},
            "authMode": auth_mode(given.get("authMode")),
            "traffic": traffic,
            "mirrorTraffic": mirror,
            "publicNetworkAccess": given.get("publicNetworkAccess") or "Enabled",
            "scoringUri": old["properties"].get("scoringUri") or f"{origin}/score" if old else None,
            "swaggerUri": f"{origin}/swagger.json" if old else None,
            "provisioningState": "Updating" if old else "Creating",
            "properties": {**(given.get("properties") or {}), "azureml.onlineendpointid": wanted_id.lower()},
        },
        "_keys": (old or {}).get("_keys") or new_keys,
    }
    store.put(wanted_id, resource)
    written(call, old, resource)
    runtime.endpoint_ids[call.args["endpoint"].lower()] = wanted_id

    def finish(endpoint: Resource) -> None:
        named = endpoint["properties"].get("scoringUri")  # by a deployment, meanwhile or before
        uris = {"scoringUri": named or f"{origin}/score", "swaggerUri": f"{origin}/swagger.json"}
        endpoint["properties"].update(uris, provisioningState="Succeeded")

    def work() -> None:
        store.update(wanted_id, finish)

    seconds = pace(call, "endpoint-update" if old else "endpoint-create")
    headers = call.emulator.operations.start(call, "oeidp", work, seconds=seconds)
    return answer(resource, 200 if old else 201, headers)


def _check_free(call: Call, wanted_id: str) -> None:
    """ArmError 400 when another workspace has an endpoint of this name: they would share one host name."""
    pattern = rf".*/onlineEndpoints/{call.args['endpoint']}"
    if any(found["id"].lower() != wanted_id.lower() for found in call.emulator.store.find(pattern)):
        raise ArmError(400, "BadArgument", f"Endpoint name '{call.args['endpoint']}' is taken in this region.")


def _identity(call: Call, given: dict[str, Any] | None, old: Resource | None) -> dict[str, Any]:
    """The identity block with the ids the service adds; one that was assigned at first stays."""
    asked = given or (old or {}).get("identity") or {"type": "SystemAssigned"}
    users = asked.get("userAssignedIdentities") or {}
    filled: dict[str, Any] = {"type": asked["type"]}
    if "SystemAssigned" in asked["type"]:
        filled |= {"principalId": object_id(endpoint_id(call)), "tenantId": call.emulator.settings.tenant_id}
    if users:
        filled["userAssignedIdentities"] = {name: _user_identity(call, name) for name in users}
    return filled


def _user_identity(call: Call, identity_id: str) -> dict[str, Any]:
    found = call.emulator.store.get(identity_id)
    if found is None:
        raise ArmError(400, "BadArgument", f"User-assigned identity '{identity_id}' does not exist.")
    return {key: found["properties"][key] for key in ("principalId", "clientId")}


@route("GET", ARM, ENDPOINT)
def read(call: Call) -> Response:
    runtime_of(call.emulator)
    return answer(as_read(call, call.emulator.store.need(endpoint_id(call), "Endpoint")))


@route("GET", ARM, WORKSPACE + r"/onlineEndpoints")
def listing(call: Call) -> Response:
    runtime_of(call.emulator)
    found = call.emulator.store.children(f"{call.args['wsid']}/onlineEndpoints")
    return answer_list([as_read(call, endpoint) for endpoint in found])


@route("DELETE", ARM, ENDPOINT)
def delete(call: Call) -> Response:
    """Remove the endpoint and all its deployments; their servers are stopped."""
    runtime, store, target = runtime_of(call.emulator), call.emulator.store, endpoint_id(call)
    if store.get(target) is None:
        return Response(status_code=204)
    refuse_conflict(call, target)
    store.update(target, lambda endpoint: endpoint["properties"].update(provisioningState="Deleting"))

    def work() -> None:
        for deployment in store.children(f"{target}/deployments"):
            if backend := runtime.backends.pop(deployment["id"].lower(), None):
                retire(runtime, backend, patience=0)
        runtime.endpoint_ids.pop(call.args["endpoint"].lower(), None)
        store.delete(target)

    headers = call.emulator.operations.start(call, "oeidp", work, seconds=pace(call, "endpoint-delete"))
    return Response(status_code=202, headers=headers)


def _keyed(call: Call) -> Resource:
    endpoint = call.emulator.store.need(endpoint_id(call), "Endpoint")
    if endpoint["properties"]["authMode"] != "Key":
        mode = endpoint["properties"]["authMode"]
        raise ArmError(400, "BadArgument", f"Endpoint '{endpoint['name']}' has no keys: its auth mode is {mode}.")
    return endpoint


@route("POST", ARM, ENDPOINT + r"/listKeys")
def list_keys(call: Call) -> Response:
    return JSONResponse(_keyed(call)["_keys"])


@route("POST", ARM, ENDPOINT + r"/regenerateKeys")
def regenerate_keys(call: Call) -> Response:
    endpoint, body = _keyed(call), call.json()
    kind = str(body.get("keyType", "")).lower()
    if kind not in ("primary", "secondary"):
        raise ArmError(400, "BadArgument", f"keyType '{body.get('keyType')}' must be Primary or Secondary.")
    value = body.get("keyValue")
    if not value or value == endpoint["_keys"][f"{kind}Key"]:  # the SDK sends the present key and means a new one
        value = secrets.token_urlsafe(48)

    def work() -> None:
        call.emulator.store.update(endpoint["id"], lambda found: found["_keys"].update({f"{kind}Key": value}))

    return Response(status_code=202, headers=call.emulator.operations.start(call, "oeidp", work))


@route("POST", ARM, ENDPOINT + r"/token")
def token(call: Call) -> Response:
    """A token for this endpoint alone (auth mode aml_token); for a key endpoint its primary key."""
    endpoint, now = call.emulator.store.need(endpoint_id(call), "Endpoint"), int(time.time())
    mode = endpoint["properties"]["authMode"]
    if mode == "AADToken":
        raise ArmError(400, "BadArgument", f"Endpoint '{endpoint['name']}' takes Entra tokens: ask Entra ID for one.")
    client = call.claims.get("appid", "")
    minted = call.emulator.tokens.mint(scoring_origin(call), client, TOKEN_SECONDS)
    body = {
        "accessToken": endpoint["_keys"]["primaryKey"] if mode == "Key" else minted,
        "expiryTimeUtc": now + TOKEN_SECONDS,
        "refreshAfterTimeUtc": now + TOKEN_SECONDS // 2,
        "tokenType": "Bearer",
    }
    return JSONResponse(body)
