"""Role assignments: who has which role where (azure-mgmt-authorization)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.responses import Response

from emulator.errors import ArmError
from emulator.identity import object_id
from emulator.rbac import BUILT_IN, NAMESPACE, covers
from emulator.resources import answer, answer_list, utc_now
from emulator.roles import ASSIGNMENTS, GUID, asked, custom
from emulator.routing import ARM, Call, route

ASSIGNMENT = r"(?P<scope>/subscriptions/(?P<sub>[^/]+).*?)/providers/Microsoft\.Authorization/roleAssignments"


@route("GET", ARM, ASSIGNMENT)
def list_assignments(call: Call) -> Response:
    """Those at, above and below the scope; with atScope() not those below."""
    scope, principal = call.args["scope"], asked(call, "principalId") or asked(call, "assignedTo")
    found = []
    for one in call.emulator.store.find(ASSIGNMENTS):
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
    own = custom(store, guid)
    if own is None and guid not in {role.id for role in BUILT_IN}:
        raise ArmError(404, "RoleDefinitionDoesNotExist", f"The specified role definition with ID '{guid}' not found.")
    if own and not any(covers(one, scope) for one in own["properties"]["assignableScopes"]):
        message = f"The role '{own['properties']['roleName']}' cannot be assigned at scope '{scope}'."
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
