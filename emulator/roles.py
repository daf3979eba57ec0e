"""Role definitions and role assignments (azure-mgmt-authorization), and what they add up to for one principal.

`access` asks here whether a call is allowed; the client that the emulator itself signs in as owns the subscription.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from starlette.responses import Response

from emulator.errors import ArmError
from emulator.identity import object_id
from emulator.rbac import BUILT_IN, NAMESPACE, BuiltIn, Permissions, covers
from emulator.resources import answer, answer_list, utc_now
from emulator.routing import ARM, Call, route
from emulator.store import Resource, Store

DEFINITION = r"(?P<scope>(?:/subscriptions/(?P<sub>[^/]+).*?)?)/providers/Microsoft\.Authorization/roleDefinitions"
ASSIGNMENT = r"(?P<scope>/subscriptions/(?P<sub>[^/]+).*?)/providers/Microsoft\.Authorization/roleAssignments"
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def permissions_of(store: Store, definition_id: str) -> Permissions:
    """What a definition allows; nothing when it is gone."""
    guid = definition_id.rsplit("/", 1)[-1].lower()
    if found := next((role for role in BUILT_IN if role.id == guid), None):
        return found.permissions
    custom = _custom(store, guid)
    parts = custom["properties"]["permissions"] if custom else []
    return Permissions(
        *(
            tuple(action for part in parts for action in part.get(key) or [])
            for key in ("actions", "notActions", "dataActions")
        )
    )


def held(store: Store, principal: str, scope: str) -> Iterator[Permissions]:
    """The permissions of each role that a principal has on a scope, its own or one above it."""
    for assignment in store.find(r".*/providers/Microsoft\.Authorization/roleAssignments/[^/]+"):
        properties = assignment["properties"]
        if properties["principalId"].lower() == principal.lower() and covers(properties["scope"], scope):
            yield permissions_of(store, properties["roleDefinitionId"])


def _custom(store: Store, guid: str) -> Resource | None:
    found = store.find(rf".*/providers/Microsoft\.Authorization/roleDefinitions/{re.escape(guid)}")
    return found[0] if found else None


def _shown(role: BuiltIn, sub: str) -> Resource:
    kept = role.permissions
    under = f"/subscriptions/{sub}" if sub else ""
    return {
        "id": f"{under}/providers/{NAMESPACE}/roleDefinitions/{role.id}",
        "type": f"{NAMESPACE}/roleDefinitions",
        "name": role.id,
        "properties": {
            "roleName": role.name,
            "type": "BuiltInRole",
            "description": role.name,
            "assignableScopes": ["/"],
            "permissions": [
                {
                    "actions": list(kept.actions),
                    "notActions": list(kept.but),
                    "dataActions": list(kept.data),
                    "notDataActions": [],
                }
            ],
        },
    }


def _asked(call: Call, name: str) -> str:
    """The value of `NAME eq 'value'` in the $filter, "" when it does not ask for that."""
    found = re.search(rf"{name}(?:\(\))?\s+eq\s+'([^']*)'", call.query.get("$filter", ""), re.IGNORECASE)
    return found[1] if found else ""


@route("GET", ARM, DEFINITION)
def list_definitions(call: Call) -> Response:
    """Those that can be assigned at the scope."""
    custom = call.emulator.store.find(r".*/providers/Microsoft\.Authorization/roleDefinitions/[^/]+")
    scope, name = call.args["scope"], _asked(call, "roleName").lower()
    here = [role for role in custom if any(covers(one, scope) for one in role["properties"]["assignableScopes"])]
    every = [*(_shown(role, call.args["sub"]) for role in BUILT_IN), *here]
    return answer_list([role for role in every if not name or role["properties"]["roleName"].lower() == name])


@route("GET", ARM, DEFINITION + r"/(?P<name>[^/]+)")
def get_definition(call: Call) -> Response:
    name = call.args["name"].lower()
    built_in = next((role for role in BUILT_IN if role.id == name), None)
    found = _shown(built_in, call.args["sub"]) if built_in else _custom(call.emulator.store, name)
    if found is None:
        raise ArmError(404, "RoleDefinitionDoesNotExist", f"The specified role definition with ID '{name}' not found.")
    return answer(found)


@route("PUT", ARM, DEFINITION + r"/(?P<name>[^/]+)")
def put_definition(call: Call) -> Response:
    store, name, wanted = call.emulator.store, call.args["name"].lower(), call.json().get("properties") or {}
    if not GUID.fullmatch(name):
        raise ArmError(400, "InvalidRoleDefinitionId", f"The role definition ID '{name}' is not valid: it is a GUID.")
    if not wanted.get("roleName") or not wanted.get("assignableScopes"):
        raise ArmError(400, "InvalidRoleDefinition", "A role definition needs roleName and assignableScopes.")
    others = [role["properties"]["roleName"].lower() for role in _all(store) if role["name"] != name]
    if wanted["roleName"].lower() in (*others, *(role.name.lower() for role in BUILT_IN)):
        message = (
            f"A custom role with the name '{wanted['roleName']}' already exists in the tenant; choose another name."
        )
        raise ArmError(409, "RoleDefinitionWithSameNameExists", message)
    empty: dict[str, list[str]] = {"actions": [], "notActions": [], "dataActions": [], "notDataActions": []}
    permissions = [{**empty, **part} for part in wanted.get("permissions") or []]
    old = _custom(store, name)
    made: Resource = {
        "id": old["id"] if old else f"{call.args['scope']}/providers/{NAMESPACE}/roleDefinitions/{name}",
        "name": name,
        "type": f"{NAMESPACE}/roleDefinitions",
        "properties": {"type": "CustomRole", "description": "", **wanted, "permissions": permissions},
    }
    return answer(store.put(made["id"], made), 201)


def _all(store: Store) -> list[Resource]:
    return store.find(r".*/providers/Microsoft\.Authorization/roleDefinitions/[^/]+")


@route("DELETE", ARM, DEFINITION + r"/(?P<name>[^/]+)")
def delete_definition(call: Call) -> Response:
    store, found = call.emulator.store, _custom(call.emulator.store, call.args["name"].lower())
    if found is None:
        return Response(status_code=204)
    users = [
        one
        for one in store.find(r".*/providers/Microsoft\.Authorization/roleAssignments/[^/]+")
        if one["properties"]["roleDefinitionId"].lower().endswith(found["name"])
    ]
    if users:
        message = f"There are existing role assignments referencing role (code: {found['name']})."
        raise ArmError(400, "RoleDefinitionHasAssignments", message)
    store.delete(found["id"])
    return answer(found)


@route("GET", ARM, ASSIGNMENT)
def list_assignments(call: Call) -> Response:
    """Those at, above and below the scope; with atScope() not those below."""
    scope, principal = call.args["scope"], _asked(call, "principalId") or _asked(call, "assignedTo")
    found = []
    for one in call.emulator.store.find(r".*/providers/Microsoft\.Authorization/roleAssignments/[^/]+"):
        where, who = one["properties"]["scope"], one["properties"]["principalId"]
        below = covers(scope, where) and "atscope()" not in call.query.get("$filter", "").lower()
        if (covers(where, scope) or below) and (not principal or principal.lower() == who.lower()):
            found.append(one)
    return answer_list(found)


@route("GET", ARM, ASSIGNMENT + r"/(?P<name>[^/]+)")
def get_assignment(call: Call) -> Response:
    found = call.emulator.store.get(call.path)
    if found is None:
        message = f"The role assignment '{call.args['name']}' is not found."
        raise ArmError(404, "RoleAssignmentNotFound", message)
    return answer(found)


@route("PUT", ARM, ASSIGNMENT + r"/(?P<name>[^/]+)")
def put_assignment(call: Call) -> Response:
    store, wanted, scope = call.emulator.store, call.json().get("properties") or {}, call.args["scope"]
    definition, principal = str(wanted.get("roleDefinitionId") or ""), str(wanted.get("principalId") or "")
    _check_assignment(call, definition, principal, scope)
    same = [
        one
        for one in store.find(rf"{re.escape(scope)}/providers/Microsoft\.Authorization/roleAssignments/[^/]+")
        if one["properties"]["principalId"].lower() == principal.lower()
        and one["properties"]["roleDefinitionId"].lower() == definition.lower()
    ]
    if same:
        message = f"The role assignment already exists. The ID of the existing role assignment is {same[0]['name']}."
        raise ArmError(409, "RoleAssignmentExists", message)
    place = call.path.rstrip("/")
    properties = {"principalType": "ServicePrincipal", **wanted, "scope": scope, "createdOn": utc_now()}
    made = {"id": place, "name": call.args["name"], "type": f"{NAMESPACE}/roleAssignments", "properties": properties}
    return answer(store.put(place, made), 201)


def _check_assignment(call: Call, definition: str, principal: str, scope: str) -> None:
    """ArmError for a name that is no GUID, a role or principal that does not exist, a scope that a role is not for."""
    store, guid = call.emulator.store, definition.rsplit("/", 1)[-1].lower()
    if not GUID.fullmatch(call.args["name"]):
        message = f"The role assignment ID '{call.args['name']}' is not valid. The role assignment ID must be a GUID."
        raise ArmError(400, "InvalidRoleAssignmentId", message)
    custom = _custom(store, guid)
    if custom is None and guid not in {role.id for role in BUILT_IN}:
        raise ArmError(404, "RoleDefinitionDoesNotExist", f"The specified role definition with ID '{guid}' not found.")
    if custom and not any(covers(one, scope) for one in custom["properties"]["assignableScopes"]):
        message = f"The role '{custom['properties']['roleName']}' cannot be assigned at scope '{scope}'."
        raise ArmError(400, "RoleAssignmentScopeNotAssignableToRoleDefinition", message)
    if principal.lower() not in {one.lower() for one in principals(call)}:
        message = f"Principal {principal.replace('-', '')} does not exist in the directory."
        raise ArmError(400, "PrincipalNotFound", message)


def principals(call: Call) -> Iterable[str]:
    """Whoever a role can be given to: the emulator's own client, managed identities, workspaces and endpoints."""
    yield object_id(call.emulator.settings.client_id)
    for identity in call.emulator.store.find(r".*/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[^/]+"):
        yield identity["properties"]["principalId"]
    for owner in call.emulator.store.find(r".*/workspaces/[^/]+(/onlineEndpoints/[^/]+)?"):
        if found := (owner.get("identity") or {}).get("principalId"):
            yield found


@route("DELETE", ARM, ASSIGNMENT + r"/(?P<name>[^/]+)")
def delete_assignment(call: Call) -> Response:
    found = call.emulator.store.get(call.path)
    call.emulator.store.delete(call.path)
    return answer(found) if found else Response(status_code=204)


def may(call: Call, action: str, scope: str, *, principal: str = "", data: bool = False) -> bool:
    """Whether a principal (default: whoever calls) may do `action` on `scope`. The emulator's own client may all."""
    settings = call.emulator.settings
    who = principal or str(call.claims.get("oid", ""))
    if who.lower() == object_id(settings.client_id).lower():
        return True
    roles = held(call.emulator.store, who, scope)
    return any(role.allows_data(action) if data else role.allows(action) for role in roles)


def refuse(call: Call, action: str, scope: str) -> ArmError:
    """ARM's refusal, word for word."""
    client, who = call.claims.get("appid", ""), call.claims.get("oid", "")
    message = (
        f"The client '{client}' with object id '{who}' does not have authorization to perform action '{action}' over "
        f"scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials."
    )
    return ArmError(403, "AuthorizationFailed", message)
