"""Role definitions: the built-in roles, and those that somebody made (azure-mgmt-authorization)."""

from __future__ import annotations

from starlette.responses import Response

from emulator.errors import ArmError
from emulator.rbac import BUILT_IN, NAMESPACE, BuiltIn, covers
from emulator.resources import answer, answer_list
from emulator.roles import ASSIGNMENTS, DEFINITIONS, GUID, asked, custom
from emulator.routing import ARM, Call, route
from emulator.store import Resource, Store

DEFINITION = r"(?P<scope>(?:/subscriptions/(?P<sub>[^/]+).*?)?)/providers/Microsoft\.Authorization/roleDefinitions"


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


@route("GET", ARM, DEFINITION)
def list_definitions(call: Call) -> Response:
    """Those that can be assigned at the scope."""
    scope, name = call.args["scope"], asked(call, "roleName").lower()
    here = [
        role
        for role in _all(call.emulator.store)
        if any(covers(one, scope) for one in role["properties"]["assignableScopes"])
    ]
    every = [*(_shown(role, call.args["sub"]) for role in BUILT_IN), *here]
    return answer_list([role for role in every if not name or role["properties"]["roleName"].lower() == name])


@route("GET", ARM, DEFINITION + r"/(?P<name>[^/]+)")
def get_definition(call: Call) -> Response:
    name = call.args["name"].lower()
    built_in = next((role for role in BUILT_IN if role.id == name), None)
    found = _shown(built_in, call.args["sub"]) if built_in else custom(call.emulator.store, name)
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
    old = custom(store, name)
    made: Resource = {
        "id": old["id"] if old else f"{call.args['scope']}/providers/{NAMESPACE}/roleDefinitions/{name}",
        "name": name,
        "type": f"{NAMESPACE}/roleDefinitions",
        "properties": {"type": "CustomRole", "description": "", **wanted, "permissions": permissions},
    }
    return answer(store.put(made["id"], made), 201)


def _all(store: Store) -> list[Resource]:
    return store.find(rf"{DEFINITIONS}/[^/]+")


@route("DELETE", ARM, DEFINITION + r"/(?P<name>[^/]+)")
def delete_definition(call: Call) -> Response:
    store, found = call.emulator.store, custom(call.emulator.store, call.args["name"].lower())
    if found is None:
        return Response(status_code=204)
    users = [
        one for one in store.find(ASSIGNMENTS) if one["properties"]["roleDefinitionId"].lower().endswith(found["name"])
    ]
    if users:
        message = f"There are existing role assignments referencing role (code: {found['name']})."
        raise ArmError(400, "RoleDefinitionHasAssignments", message)
    store.delete(found["id"])
    return answer(found)
