"""Online deployments as resources: deploy, update without outage, scale, logs, delete."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response

from emulator import no_code
from emulator.backends import folder_of, retire
from emulator.containers import routes_of
from emulator.deployer import deploy, set_state, unwanted
from emulator.endpoint_identity import check as check_identity
from emulator.endpoint_rules import DEPLOYMENT_NAME, check_name, deployment_properties
from emulator.endpoints import ENDPOINT, endpoint_id
from emulator.errors import ArmError
from emulator.fault_injection import hold_up, pace, refuse_conflict
from emulator.quota import check_deployment
from emulator.resources import BUSY_STATES, PROVIDER, answer, answer_list, system_data
from emulator.routing import ARM, Call, route
from emulator.runtime import runtime_of
from emulator.store import Resource

DEPLOYMENT = ENDPOINT + r"/deployments/(?P<deployment>[^/]+)"
LOGS = {"InferenceServer": "console.log", "StorageInitializer": "storage-initializer.log"}
DEFAULT_TAIL = 500


def deployment_id(call: Call) -> str:
    return f"{endpoint_id(call)}/deployments/{call.args['deployment']}"


@route("PUT", ARM, DEPLOYMENT)
def put(call: Call) -> Response:
    """Create or update. The old server serves on until the new one is ready; a scale change starts none at all."""
    runtime, store, target = runtime_of(call.emulator), call.emulator.store, deployment_id(call)
    endpoint = store.need(endpoint_id(call), "Endpoint")
    check_name(call.args["deployment"], DEPLOYMENT_NAME, "Deployment")
    body = call.json()
    given = body.get("properties") or {}
    properties = deployment_properties(given)
    _check_references(call, properties)
    instances = int((body.get("sku") or {}).get("capacity") or 1)
    with runtime.lock:
        check_deployment(call, target, properties["instanceType"], instances)
        old = store.get(target)
        _refuse_if_busy(old)
        refuse_conflict(call, endpoint_id(call))
        resource: Resource = {
            "id": (old or {}).get("id", target),
            "name": (old or {}).get("name", call.args["deployment"]),
            "type": f"{PROVIDER}/workspaces/onlineEndpoints/deployments",
            "location": body.get("location") or call.emulator.settings.region,
            "tags": body.get("tags") or {},
            "sku": {"name": "Default", "capacity": 1, **(body.get("sku") or {})},
            "kind": "Managed",
            "systemData": system_data(call, old),
            "properties": {**properties, "provisioningState": "Updating" if old else "Creating"},
            # Deprecated, but honoured when it is sent: else a queued request waits as long as its timeout allows.
            "_queue_wait": (given.get("requestSettings") or {}).get("maxQueueWait"),
            "_logs": (old or {}).get("_logs"),
        }
        store.put(target, resource)
    operation = "deployment-update" if old else "deployment-create"
    held = hold_up(call, operation, lambda: unwanted(runtime, target))

    def first() -> None:
        held()
        collections = (properties.get("dataCollector") or {}).get("collections") or {}
        on = [each for each in collections.values() if str(each.get("dataCollectionMode")).lower() == "enabled"]
        check_identity(call, endpoint, collects=bool(on))

    work, seconds = lambda: deploy(runtime, target, first), pace(call, operation)
    headers = call.emulator.operations.start(call, "odidp", work, seconds=seconds)
    return answer(resource, 200 if old else 201, headers)


def _refuse_if_busy(deployment: Resource | None) -> None:
    if deployment and deployment["properties"]["provisioningState"] in BUSY_STATES:
        state = deployment["properties"]["provisioningState"]
        message = f"Deployment '{deployment['name']}' is {state}: wait for that operation to end."
        raise ArmError(409, "Conflict", message)


def _check_references(call: Call, properties: dict[str, Any]) -> None:
    code = properties.get("codeConfiguration")
    named = {
        "Model": properties.get("model"),
        "Environment": properties.get("environmentId"),
        "Code": (code or {}).get("codeId"),
    }
    for what, target in named.items():
        if target and target.startswith("/") and call.emulator.store.get(target) is None:
            raise ArmError(400, "BadArgument", f"{what} '{target}' of the deployment does not exist.")
    if code and not named["Code"]:
        raise ArmError(400, "BadArgument", "The deployment's code_configuration has no code.")
    no_code.check(call.emulator, properties)
    if (
        not code
        and not no_code.is_no_code(properties)
        and routes_of(call.emulator, properties["environmentId"]) is None
    ):
        message = (
            "The local Azure ML serves deployments with a code_configuration (code and scoring_script), with an "
            f"environment that has an inference_config, or of an {no_code.MODEL_TYPE} with neither."
        )
        raise ArmError(400, "BadArgument", message)


@route("PATCH", ARM, DEPLOYMENT)
def patch(call: Call) -> Response:
    """Change the number of instances or the tags: no server is touched."""
    body, store = call.json(), call.emulator.store
    runtime_of(call.emulator)
    refuse_conflict(call, endpoint_id(call))

    def change(found: Resource) -> None:
        _refuse_if_busy(found)
        found["sku"].update(body.get("sku") or {})
        found["tags"].update(body.get("tags") or {})

    store.need(deployment_id(call), "Deployment")
    resource = store.update(deployment_id(call), change)
    seconds = pace(call, "deployment-update")
    return answer(resource, 202, call.emulator.operations.start(call, "odidp", lambda: None, seconds=seconds))


@route("GET", ARM, DEPLOYMENT)
def read(call: Call) -> Response:
    runtime_of(call.emulator)
    return answer(call.emulator.store.need(deployment_id(call), "Deployment"))


@route("GET", ARM, ENDPOINT + r"/deployments")
def listing(call: Call) -> Response:
    runtime_of(call.emulator)
    call.emulator.store.need(endpoint_id(call), "Endpoint")
    return answer_list(call.emulator.store.children(f"{endpoint_id(call)}/deployments"))


@route("POST", ARM, DEPLOYMENT + r"/getLogs")
def logs(call: Call) -> Response:
    """The last lines of the newest server's log, be it running or crashed."""
    body = call.json() if call.body else {}
    found = call.emulator.store.need(deployment_id(call), "Deployment")
    kind = body.get("containerType") or "InferenceServer"
    if kind not in LOGS:
        raise ArmError(400, "BadArgument", f"containerType '{kind}' must be one of {', '.join(LOGS)}.")
    file = Path(found["_logs"] or "nowhere") / LOGS[kind]
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    return JSONResponse({"content": "\n".join(lines[-int(body.get("tail") or DEFAULT_TAIL) :])})


@route("DELETE", ARM, DEPLOYMENT)
def delete(call: Call) -> Response:
    """Stop and remove; refused while live or mirrored traffic goes there."""
    runtime, store, target = runtime_of(call.emulator), call.emulator.store, deployment_id(call)
    found = store.get(target)
    if found is None:
        return Response(status_code=204)
    endpoint, name = store.need(endpoint_id(call), "Endpoint"), call.args["deployment"].lower()
    for kind in ("traffic", "mirrorTraffic"):
        if share := endpoint["properties"][kind].get(name):
            message = f"Cannot delete deployment '{name}': {share}% of {kind} goes to it. Set that to 0 first."
            raise ArmError(400, "BadRequest", message)
    refuse_conflict(call, endpoint["id"])
    set_state(runtime, target, "Deleting")

    def work() -> None:
        with runtime.lock:
            backend = runtime.backends.pop(target.lower(), None)
            store.delete(target)
        if backend is not None:
            retire(runtime, backend, patience=0)
        shutil.rmtree(folder_of(call.emulator, target), ignore_errors=True)

    headers = call.emulator.operations.start(call, "odidp", work, seconds=pace(call, "deployment-delete"))
    return Response(status_code=202, headers=headers)
