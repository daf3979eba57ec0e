"""Serverless endpoints as resources: a model of the catalogue, or one that the service fine-tuned, behind an address.

There are no deployments, no instances and no weights to shift: one endpoint, one model.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from starlette.responses import JSONResponse, Response

from emulator import providers, service_models
from emulator.backends import retire
from emulator.errors import ArmError
from emulator.finetuning import NEEDS_PROVIDER
from emulator.resources import BUSY_STATES, PROVIDER, answer_list, system_data
from emulator.routing import ARM, WORKSPACE, Call, route
from emulator.runtime import runtime_of
from emulator.serverless_backends import deploy
from emulator.store import Resource, public

ENDPOINT = WORKSPACE + r"/serverlessEndpoints/(?P<endpoint>[^/]+)"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,50}[a-z0-9]", re.IGNORECASE)
# azureml://locations/REGION/workspaces/ITS GUID/models/NAME/versions/VERSION: the id of a custom model
CUSTOM = re.compile(
    r"azureml:/*locations/[^/]+/workspaces/(?P<guid>[^/]+)/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)/?",
    re.IGNORECASE,
)
AUTH_MODES = {"key": "Key", "aad": "AAD", "keyandaad": "KeyAndAAD"}
WITHOUT_CONTENT_SAFETY = {"2023-08-01-preview", "2024-01-01-preview"}  # versions that do not know the property


def endpoint_id(call: Call) -> str:
    return f"{call.args['wsid']}/serverlessEndpoints/{call.args['endpoint']}"


def _shown(call: Call, endpoint: Resource) -> Resource:
    """As the api-version that was asked with knows it."""
    properties = dict(endpoint["properties"])
    if call.query.get("api-version") in WITHOUT_CONTENT_SAFETY:
        properties.pop("contentSafety", None)
    return public({**endpoint, "properties": properties})


@route("PUT", ARM, ENDPOINT)
def put(call: Call) -> Response:
    """Create, or change tags, content filter and auth mode; another model needs another endpoint."""
    runtime, store, target = runtime_of(call.emulator), call.emulator.store, endpoint_id(call)
    workspace = store.need(call.args["wsid"], "Workspace")
    providers.need(call, NEEDS_PROVIDER)
    if not NAME.fullmatch(call.args["endpoint"]):
        raise ArmError(400, "BadArgument", f"Endpoint name '{call.args['endpoint']}' is invalid.")
    body = call.json()
    given = body.get("properties") or {}
    with runtime.lock:
        old = store.get(target)
        if old and old["properties"]["provisioningState"] in BUSY_STATES:
            raise ArmError(409, "Conflict", f"Endpoint '{old['name']}' is being changed: wait for that to end.")
        model_id, custom, subscription = _model(call, workspace, given, target)
        if old and old["properties"]["modelSettings"]["modelId"].lower() != model_id.lower():
            raise ArmError(400, "BadArgument", "The model of a serverless endpoint cannot be changed: create another.")
        if old is None:
            _check_free(call, target)
        host = f"{call.args['endpoint'].lower()}.{call.emulator.settings.region}.models.ai.azure.com"
        resource: Resource = {
            "id": (old or {}).get("id", target),
            "name": (old or {}).get("name", call.args["endpoint"]),
            "type": f"{PROVIDER}/workspaces/serverlessEndpoints",
            "location": body.get("location") or call.emulator.settings.region,
            "tags": body.get("tags") or {},
            "sku": body.get("sku") or {"name": "Consumption"},
            "systemData": system_data(call, old),
            "properties": {
                "authMode": _auth_mode(given.get("authMode")),
                "contentSafety": {"contentSafetyStatus": _content_safety(given.get("contentSafety"))},
                "modelSettings": {"modelId": model_id},
                "inferenceEndpoint": {"uri": f"https://{host}", "headers": {}},
                "marketplaceSubscriptionId": subscription,
                "endpointState": "Online" if old else "Creating",
                "provisioningState": "Updating" if old else "Creating",
            },
            "_model": custom,
            "_keys": (old or {}).get("_keys")
            or {"primaryKey": secrets.token_urlsafe(24), "secondaryKey": secrets.token_urlsafe(24)},
        }
        store.put(target, resource)
    kept = old and (backend := runtime.backends.get(target.lower())) and backend.alive

    def work() -> None:
        if kept:
            store.update(target, lambda found: found["properties"].update(provisioningState="Succeeded"))
        else:
            deploy(runtime, target)

    headers = call.emulator.operations.start(call, "maas", work)
    return JSONResponse(_shown(call, resource), 200 if old else 201, headers=headers)


def _model(call: Call, workspace: Resource, given: dict[str, Any], target: str) -> tuple[str, str | None, str | None]:
    """(model id, ARM id of a custom model, Marketplace subscription). ArmError 400, 404 or 409 for what has none."""
    store, model_id = call.emulator.store, str((given.get("modelSettings") or {}).get("modelId") or "")
    custom = None
    if named := CUSTOM.fullmatch(model_id):
        if named["guid"].lower() != workspace["properties"]["workspaceId"].lower():
            raise ArmError(404, "UserError", f"Model '{model_id}' is not in this workspace.")
        custom = f"{call.args['wsid']}/models/{named['name']}/versions/{named['version']}"
        found = store.need(custom, "Model")
        if not found.get("_weights"):
            raise ArmError(400, "BadArgument", f"Model '{named['name']}' was not fine-tuned by the service.")
        users = [
            each for each in store.children(f"{call.args['wsid']}/serverlessEndpoints") if each.get("_model") == custom
        ]
        if others := [each["name"] for each in users if each["id"].lower() != target.lower()]:
            raise ArmError(
                409, "Conflict", f"Only one deployment is permitted for a custom model, and it has {others[0]}."
            )
    base = service_models.find(found["_base"] if custom else model_id)
    if base is None:
        raise ArmError(400, "BadArgument", f"modelId '{model_id}' is no model that can be served without a server.")
    service_models.check(store, workspace, base, "deployment")
    subscription = service_models.subscribed(store, workspace["id"], base)
    return model_id, custom, subscription["id"] if subscription else None


def _auth_mode(given: Any) -> str:
    found = AUTH_MODES.get(str(given or "Key").lower())
    if found is None:
        raise ArmError(400, "BadArgument", f"authMode '{given}' must be one of {', '.join(AUTH_MODES.values())}.")
    return found


def _content_safety(given: Any) -> str:
    """Enabled unless somebody opts out."""
    status = str((given or {}).get("contentSafetyStatus") or "Enabled").capitalize()
    if status not in ("Enabled", "Disabled"):
        raise ArmError(400, "BadArgument", f"contentSafetyStatus '{status}' must be Enabled or Disabled.")
    return status


def _check_free(call: Call, target: str) -> None:
    """ArmError 409 when another workspace has an endpoint of this name: they would share one host name."""
    pattern = rf".*/serverlessEndpoints/{re.escape(call.args['endpoint'])}"
    if any(found["id"].lower() != target.lower() for found in call.emulator.store.find(pattern)):
        raise ArmError(409, "Conflict", f"Endpoint name '{call.args['endpoint']}' is taken in this region.")


@route("GET", ARM, ENDPOINT)
def read(call: Call) -> Response:
    runtime_of(call.emulator)
    return JSONResponse(_shown(call, call.emulator.store.need(endpoint_id(call), "Serverless endpoint")))


@route("GET", ARM, WORKSPACE + r"/serverlessEndpoints")
def listing(call: Call) -> Response:
    runtime_of(call.emulator)
    found = call.emulator.store.children(f"{call.args['wsid']}/serverlessEndpoints")
    return answer_list([_shown(call, each) for each in found])


@route("DELETE", ARM, ENDPOINT)
def delete(call: Call) -> Response:
    """Remove the endpoint and stop its server; the model stays and can be deployed again."""
    runtime, store, target = runtime_of(call.emulator), call.emulator.store, endpoint_id(call)
    if store.get(target) is None:
        return Response(status_code=204)
    change = {"provisioningState": "Deleting", "endpointState": "Deleting"}
    store.update(target, lambda found: found["properties"].update(change))

    def work() -> None:
        if backend := runtime.backends.pop(target.lower(), None):
            retire(runtime, backend, patience=0)
        runtime.endpoint_ids.pop(f"serverless {call.args['endpoint'].lower()}", None)
        store.delete(target)

    return Response(status_code=202, headers=call.emulator.operations.start(call, "maas", work))


@route("POST", ARM, ENDPOINT + r"/listKeys")
def list_keys(call: Call) -> Response:
    endpoint = call.emulator.store.need(endpoint_id(call), "Serverless endpoint")
    if endpoint["properties"]["authMode"] == "AAD":
        raise ArmError(400, "BadArgument", f"Endpoint '{endpoint['name']}' has no keys: its auth mode is AAD.")
    return JSONResponse(endpoint["_keys"])


@route("POST", ARM, ENDPOINT + r"/regenerateKeys")
def regenerate_keys(call: Call) -> Response:
    endpoint, kind = call.emulator.store.need(endpoint_id(call), "Serverless endpoint"), str(call.json().get("keyType"))
    if kind.lower() not in ("primary", "secondary"):
        raise ArmError(400, "BadArgument", f"keyType '{kind}' must be Primary or Secondary.")
    value = secrets.token_urlsafe(24)
    changed = call.emulator.store.update(
        endpoint["id"], lambda found: found["_keys"].update({f"{kind.lower()}Key": value})
    )
    return JSONResponse(changed["_keys"])
