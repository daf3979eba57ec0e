"""What the roles of a principal add up to; who may not is refused in ARM's words.

`access` asks here whether a call is allowed; the client that the emulator itself signs in as owns the subscription. The
roles and who has them are kept by role_definitions.py and role_assignments.py (azure-mgmt-authorization).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from emulator.errors import ArmError
from emulator.identity import object_id
from emulator.rbac import BUILT_IN, Permissions, covers
from emulator.routing import Call
from emulator.store import Resource, Store

DEFINITIONS = r".*/providers/Microsoft\.Authorization/roleDefinitions"
ASSIGNMENTS = r".*/providers/Microsoft\.Authorization/roleAssignments/[^/]+"
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def permissions_of(store: Store, definition_id: str) -> Permissions:
    """What a definition allows; nothing when it is gone."""
    guid = definition_id.rsplit("/", 1)[-1].lower()
    if found := next((role for role in BUILT_IN if role.id == guid), None):
        return found.permissions
    own = custom(store, guid)
    parts = own["properties"]["permissions"] if own else []
    return Permissions(
        *(
            tuple(action for part in parts for action in part.get(key) or [])
            for key in ("actions", "notActions", "dataActions")
        )
    )


def held(store: Store, principal: str, scope: str) -> Iterator[Permissions]:
    """The permissions of each role that a principal has on a scope, its own or one above it."""
    for assignment in store.find(ASSIGNMENTS):
        properties = assignment["properties"]
        if properties["principalId"].lower() == principal.lower() and covers(properties["scope"], scope):
            yield permissions_of(store, properties["roleDefinitionId"])


def custom(store: Store, guid: str) -> Resource | None:
    found = store.find(rf"{DEFINITIONS}/{re.escape(guid)}")
    return found[0] if found else None


def asked(call: Call, name: str) -> str:
    """The value of `NAME eq 'value'` in the $filter, "" when it does not ask for that."""
    found = re.search(rf"{name}(?:\(\))?\s+eq\s+'([^']*)'", call.query.get("$filter", ""), re.IGNORECASE)
    return found[1] if found else ""


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
