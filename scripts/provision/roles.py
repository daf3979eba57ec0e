"""Who gets which role on which scope, out of the data.

An assignment is looked for by who, what and where, not by its name, so that one which a person made counts too. What
`provision` makes has a name that follows from those three: making it twice makes it once, and `--destroy` knows it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from pydantic import BaseModel, ConfigDict

from scripts import yaml_files
from scripts.errors import InvalidInput
from scripts.github.environments import GitHubSide
from scripts.github.environments import Role as Wanted
from scripts.provision import definitions, names
from scripts.provision.place import Place
from scripts.provision.resource import Resource

FILE = Path("scripts/provision/workloads.yaml")
LOG = "Log Analytics workspace"  # only where the settings name one
FILTER = "content safety resource"  # the same
# The scopes that the data may name, smallest first.
SCOPES: dict[str, Callable[[Place], str]] = {
    "identity of the endpoint": lambda place: place.identity_id(place.settings.endpoint_identity),
    "storage account of the workspace": lambda place: place.storage_id,
    "container registry of the workspace": lambda place: place.registry_id,
    "workspace": lambda place: place.workspace_id,
    "resource group": lambda place: place.group,
    "subscription": lambda place: place.subscription,
    LOG: lambda place: place.log_id,
    FILTER: lambda place: place.settings.serving.content_safety_id,
}


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Workload(Part):
    identity: str
    may: str
    roles: list[Wanted]


class Workloads(Part):
    workloads: list[Workload]


@dataclass(frozen=True)
class Grant:
    """One role for one identity on one scope."""

    who: str
    wanted: Wanted
    place: Place

    @property
    def scope(self) -> str:
        """Its ARM id. Raises InvalidInput for a scope that nobody knows."""
        if self.wanted.scope not in SCOPES:
            raise InvalidInput(
                f"The role {self.wanted.name} of {self.who} is on {self.wanted.scope!r}, which is none of "
                f"{', '.join(SCOPES)}."
            )
        return SCOPES[self.wanted.scope](self.place)

    @property
    def role(self) -> str:
        """Its name in Azure: our own roles carry the group's."""
        return names.custom_role(self.place.settings, self.wanted.name) if self.wanted.actions else self.wanted.name

    def definition(self) -> str:
        """The ARM id of the role. Raises ResourceNotFoundError while there is none."""
        found = definitions.find(self.place, self.role)
        if found is None:
            raise ResourceNotFoundError(f"There is no role {self.role}.")
        return str(found.id)

    def assignment(self) -> Any | None:
        """The assignment on this very scope, or on one above it, which allows as much."""
        role, principal, scope = self.definition().rpartition("/")[2], self.place.principal(self.who), self.scope
        known = self.place.authorization.role_assignments
        for each in known.list_for_scope(scope, filter=f"principalId eq '{principal}'"):
            same = str(each.role_definition_id).lower().endswith(role.lower())
            if same and f"{scope}/".lower().startswith(f"{str(each.scope).rstrip('/')}/".lower()):
                return each
        return None

    def name(self) -> str:
        return names.guid(self.scope, self.place.principal(self.who), self.definition())

    def create(self) -> None:
        wanted = {
            "role_definition_id": self.definition(),
            "principal_id": self.place.principal(self.who),
            "principal_type": "ServicePrincipal",  # else Azure looks up an identity that it may not know of yet
        }
        self.place.authorization.role_assignments.create(self.scope, self.name(), _assignment(wanted))

    def remove(self) -> None:
        self.place.authorization.role_assignments.delete(self.scope, self.name())

    def resource(self) -> Resource:
        return Resource(
            "role assignment",
            f"{self.who}: {self.wanted.name}",
            self.assignment,
            self.create,
            where=self.wanted.scope,
            why=self.wanted.why,
            stays=lambda found: "" if str(getattr(found, "name", "")).lower() == self.name() else names.NOT_OURS,
            remove=self.remove,
        )


def _assignment(values: dict[str, str]) -> Any:
    from azure.mgmt.authorization.v2022_04_01.models import RoleAssignmentCreateParameters

    return RoleAssignmentCreateParameters(**values)


@cache
def workloads(path: Path = FILE) -> Workloads:
    return yaml_files.read(Workloads, path, "the file of the workloads' roles")


def called_for(place: Place) -> dict[str, bool]:
    """Which roles the settings call for, by their `when`."""
    serving = place.settings.serving
    return {
        "always": True,
        "collecting": any(serving.collect.collections.values()),
        "filtering": serving.content_filter == "azure" and bool(serving.content_safety_id),
        "scaling": serving.scale.on,
    }


def workload_grants(place: Place) -> list[Grant]:
    """The roles of the cluster's identity and of the endpoint's."""
    wanted = called_for(place)
    return [
        Grant(getattr(place.settings, each.identity), role, place)
        for each in workloads().workloads
        for role in each.roles
        if wanted[role.when]
    ]


def github_grants(place: Place, side: GitHubSide) -> list[Grant]:
    """The roles of the identities that GitHub's environments sign in as."""
    wanted = called_for(place)
    return [
        Grant(names.github_identity(each.name), role, place)
        for each in side.environments
        if each.azure
        for role in each.azure.roles
        if role.scope != LOG or place.settings.log_analytics_workspace_id
        if wanted[role.when]
    ]


def visible(place: Place, identity: str) -> bool:
    """Whether an identity is there and may be seen."""
    try:
        place.identity(identity)
    except ResourceNotFoundError:
        return False
    except HttpResponseError as error:
        if error.status_code == 403:
            return False
        raise
    return True
