"""User-assigned managed identities and their federated credentials (azure-mgmt-msi); `login` honours them."""

from __future__ import annotations

import re
import uuid

from starlette.responses import Response

from emulator.errors import ArmError
from emulator.identity import object_id
from emulator.resources import answer, answer_list, system_data
from emulator.routing import ARM, GROUP, Call, route
from emulator.subscriptions import need_group

TYPE = "Microsoft.ManagedIdentity/userAssignedIdentities"
IDENTITIES = GROUP + r"/providers/Microsoft\.ManagedIdentity/userAssignedIdentities"
IDENTITY = IDENTITIES + r"/(?P<name>[^/]+)"
CREDENTIAL = IDENTITY + r"/federatedIdentityCredentials/(?P<credential>[^/]+)"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}")
CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}")
MOST_CREDENTIALS = 20  # per identity, a limit of the service


def identity_id(call: Call) -> str:
    return f"{call.args['rgid']}/providers/{TYPE}/{call.args['name']}"


@route("GET", ARM, IDENTITIES)
def list_in_group(call: Call) -> Response:
    return answer_list(call.emulator.store.children(f"{call.args['rgid']}/providers/{TYPE}"))


@route(
    "GET", ARM, r"(?P<scope>/subscriptions/(?P<sub>[^/]+))/providers/Microsoft\.ManagedIdentity/userAssignedIdentities"
)
def list_in_subscription(call: Call) -> Response:
    scope = re.escape(call.args["scope"])
    return answer_list(call.emulator.store.find(rf"{scope}/resourcegroups/[^/]+/providers/{re.escape(TYPE)}/[^/]+"))


@route("GET", ARM, IDENTITY)
def get(call: Call) -> Response:
    return answer(call.emulator.store.need(identity_id(call), "Managed identity"))


@route("PUT|PATCH", ARM, IDENTITY)
def put(call: Call) -> Response:
    store, body, name = call.emulator.store, call.json(), call.args["name"]
    need_group(store, call.args["sub"], call.args["rg"])
    if not NAME.fullmatch(name):
        raise ArmError(
            400, "InvalidResourceName", f"The identity name '{name}' is not valid: 3 to 128 of A-Z a-z 0-9 _ -."
        )
    old = store.need(identity_id(call)) if call.method == "PATCH" else store.get(identity_id(call))
    location = body.get("location") or (old or {}).get("location")
    if not location:
        raise ArmError(400, "LocationRequired", "The location property is required for this definition.")
    client = old["properties"]["clientId"] if old else str(uuid.uuid4())
    resource = {
        "id": identity_id(call),
        "name": name,
        "type": TYPE,
        "location": location,
        "tags": body.get("tags") or (old or {}).get("tags") or {},
        "systemData": system_data(call, old),
        "properties": {
            "tenantId": call.emulator.settings.tenant_id,
            "principalId": object_id(client),
            "clientId": client,
        },
    }
    return answer(store.put(identity_id(call), resource), 200 if old else 201)


@route("DELETE", ARM, IDENTITY)
def delete(call: Call) -> Response:
    existed = call.emulator.store.get(identity_id(call))
    call.emulator.store.delete(identity_id(call))
    return Response(status_code=200 if existed else 204)


@route("GET", ARM, IDENTITY + r"/federatedIdentityCredentials")
def list_credentials(call: Call) -> Response:
    call.emulator.store.need(identity_id(call), "Managed identity")
    return answer_list(call.emulator.store.children(f"{identity_id(call)}/federatedIdentityCredentials"))


@route("GET", ARM, CREDENTIAL)
def get_credential(call: Call) -> Response:
    path = f"{identity_id(call)}/federatedIdentityCredentials/{call.args['credential']}"
    return answer(call.emulator.store.need(path, "Federated identity credential"))


@route("PUT", ARM, CREDENTIAL)
def put_credential(call: Call) -> Response:
    store, name = call.emulator.store, call.args["credential"]
    store.need(identity_id(call), "Managed identity")
    wanted = call.json().get("properties") or {}
    missing = [key for key in ("issuer", "subject", "audiences") if not wanted.get(key)]
    if missing:
        raise ArmError(400, "BadRequest", f"Federated identity credential '{name}' lacks {', '.join(missing)}.")
    if not CREDENTIAL_NAME.fullmatch(name):
        raise ArmError(400, "BadRequest", f"The credential name '{name}' is not valid: 3 to 120 of A-Z a-z 0-9 _ -.")
    path = f"{identity_id(call)}/federatedIdentityCredentials/{name}"
    others = [
        each for each in store.children(f"{identity_id(call)}/federatedIdentityCredentials") if each["name"] != name
    ]
    pair = (wanted["issuer"], wanted["subject"])
    if any((each["properties"]["issuer"], each["properties"]["subject"]) == pair for each in others):
        message = "Issuer and subject combination already exists for this Managed Identity."
        raise ArmError(409, "FederatedIdentityCredentialAlreadyExists", message)
    if len(others) >= MOST_CREDENTIALS:
        message = f"Too many Federated Identity Credentials; the limit is {MOST_CREDENTIALS}."
        raise ArmError(400, "MaxNumberOfFederatedIdentityCredentialsReached", message)
    old = store.get(path)
    resource = {
        "id": path,
        "name": name,
        "type": f"{TYPE}/federatedIdentityCredentials",
        "properties": {key: wanted[key] for key in ("issuer", "subject", "audiences")},
    }
    return answer(store.put(path, resource), 200 if old else 201)


@route("DELETE", ARM, CREDENTIAL)
def delete_credential(call: Call) -> Response:
    path = f"{identity_id(call)}/federatedIdentityCredentials/{call.args['credential']}"
    existed = call.emulator.store.get(path)
    call.emulator.store.delete(path)
    return Response(status_code=200 if existed else 204)
