"""Azure Marketplace subscriptions of a workspace: what a partner's model needs before it is fine-tuned or deployed."""

from __future__ import annotations

from starlette.responses import Response

from emulator import service_models
from emulator.errors import ArmError
from emulator.resources import PROVIDER, answer, answer_list, system_data
from emulator.routing import ARM, WORKSPACE, Call, route
from emulator.store import Resource

SUBSCRIPTION = WORKSPACE + r"/marketplaceSubscriptions/(?P<name>[^/]+)"


def _id(call: Call) -> str:
    return f"{call.args['wsid']}/marketplaceSubscriptions/{call.args['name']}"


@route("PUT", ARM, SUBSCRIPTION)
def put(call: Call) -> Response:
    """Subscribe. Refused for a Microsoft model, which nobody sells there."""
    store, target = call.emulator.store, _id(call)
    store.need(call.args["wsid"], "Workspace")
    given = call.json().get("properties") or {}
    model = service_models.find(str(given.get("modelId")))
    if model is None:
        raise ArmError(400, "UserError", f"modelId '{given.get('modelId')}' is not a model of a registry.")
    if not model.partner:
        raise ArmError(400, "UserError", f"Marketplace subscription is not required for model '{model.name}'.")
    old = store.get(target)
    resource: Resource = {
        "id": target,
        "name": call.args["name"],
        "type": f"{PROVIDER}/workspaces/marketplaceSubscriptions",
        "systemData": system_data(call, old),
        "properties": {
            "modelId": given["modelId"],
            "marketplacePlan": {"publisherId": model.registry, "offerId": model.name.lower(), "planId": "paygo"},
            "marketplaceSubscriptionStatus": "PendingFulfillmentStart",
            "provisioningState": "Updating" if old else "Creating",
        },
    }
    store.put(target, resource)

    def work() -> None:
        done = {"provisioningState": "Succeeded", "marketplaceSubscriptionStatus": "Subscribed"}
        store.update(target, lambda found: found["properties"].update(done))

    return answer(resource, 200 if old else 201, call.emulator.operations.start(call, "maas", work))


@route("GET", ARM, SUBSCRIPTION)
def read(call: Call) -> Response:
    return answer(call.emulator.store.need(_id(call), "Marketplace subscription"))


@route("GET", ARM, WORKSPACE + r"/marketplaceSubscriptions")
def listing(call: Call) -> Response:
    return answer_list(call.emulator.store.children(f"{call.args['wsid']}/marketplaceSubscriptions"))


@route("DELETE", ARM, SUBSCRIPTION)
def delete(call: Call) -> Response:
    store, target = call.emulator.store, _id(call)
    if store.get(target) is None:
        return Response(status_code=204)
    headers = call.emulator.operations.start(call, "maas", lambda: store.delete(target))
    return Response(status_code=202, headers=headers)
