"""The role definitions of our own, for what no built-in role allows without allowing more."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from scripts.provision import names
from scripts.provision.place import Place
from scripts.provision.resource import Resource

if TYPE_CHECKING:
    from scripts.provision.roles import Grant


def find(place: Place, role: str) -> Any | None:
    """A role by its name, None when it cannot be assigned in this group because there is none."""
    found = place.authorization.role_definitions.list(place.group, filter=f"roleName eq '{role}'")
    return next(iter(found), None)


def resources(grants: "list[Grant]") -> Iterator[Resource]:
    """Our own roles, each once."""
    seen: set[str] = set()
    for grant in grants:
        if grant.wanted.actions and grant.role not in seen:
            seen.add(grant.role)
            yield _definition(grant)


def _definition(grant: "Grant") -> Resource:
    from azure.mgmt.authorization.v2022_04_01.models import Permission, RoleDefinition

    place, wanted = grant.place, grant.wanted
    # A role that is given on the subscription must be assignable there; the others only in their group.
    scope = place.subscription if wanted.scope == "subscription" else place.group
    own, known = names.guid(place.group, grant.role), place.authorization.role_definitions

    def create() -> None:
        there = find(place, grant.role)
        made = RoleDefinition(
            role_name=grant.role,
            description=wanted.why,
            role_type="CustomRole",
            permissions=[Permission(actions=list(wanted.actions), not_actions=[])],
            assignable_scopes=[scope],
        )
        known.create_or_update(scope, str(there.name) if there else own, made)

    def differs(found: Any) -> bool:
        actions = {action for part in found.permissions or [] for action in part.actions or []}
        taken = {action for part in found.permissions or [] for action in part.not_actions or []}
        return actions != set(wanted.actions) or bool(taken)

    return Resource(
        "role definition",
        grant.role,
        lambda: find(place, grant.role),
        create,
        where=wanted.scope,
        why=wanted.why,
        differs=differs,
        stays=lambda found: "" if str(getattr(found, "name", "")) == own else names.NOT_OURS,
        remove=lambda: known.delete(scope, own),
    )
