"""Looking at everything, and making what is missing, in order. What is there stays as it is."""

from collections.abc import Callable
from dataclasses import dataclass

from scripts import azure_ml, records
from scripts.cost import prices, standing
from scripts.github.environments import GitHubSide, Identity
from scripts.provision import alert_data, alerts, definitions, foundation, github, names, roles, workplace
from scripts.provision.place import Place
from scripts.provision.resource import Provision, Provisioned, Resource, Role
from scripts.settings import Settings

DONE = {"missing": "created", "differs": "changed"}
Tell = Callable[[Provisioned], None]


@dataclass(frozen=True)
class GitHub:
    """The data of GitHub's side and the repository that its credentials are for."""

    side: GitHubSide
    repository: Identity


def provision(
    settings: Settings, *, github: GitHub | None = None, plan_only: bool = False, tell: Tell = lambda _: None
) -> Provision:
    """Create what is missing, change what differs. `tell` is called as each thing is settled.

    Raises AzureFailed when Azure refuses, InvalidInput when a file is wrong.
    """
    place = Place(settings)
    done, unregistered = [], set[str]()
    for resource in resources(settings, github, place):
        with azure_ml.explained(f"{'Looking at' if plan_only else 'Provisioning'} {resource.kind} {resource.name}"):
            found = resource.state(unregistered)
            if found in DONE and not plan_only:
                with azure_ml.waiting(f"Creating {resource.kind} {resource.name}"):
                    resource.create()
                found_now = DONE[found]
            else:
                found_now = found
                unregistered |= {resource.name} if (resource.kind, found) == ("provider", "missing") else set()
        part = Provisioned(
            kind=resource.kind, name=resource.name, state=found_now, where=resource.where, why=resource.why
        )
        tell(part)
        done.append(part)
    clients = _clients(place, github) if github and not plan_only else {}
    granted = _roles(grants(place, github), done)
    month = standing.month(settings, alert_data.series(settings), prices.load(), records.now().date())
    return Provision(workspace=settings.workspace, resources=done, roles=granted, clients=clients, month=month)


def resources(settings: Settings, github_side: GitHub | None = None, place: Place | None = None) -> list[Resource]:
    """What one environment consists of, each after what it needs."""
    place = place or Place(settings)
    wanted = grants(place, github_side)
    return [
        *foundation.foundation(place),
        *(github.identities(place, github_side.side, github_side.repository) if github_side else []),
        *workplace.workplace(place),
        *alerts.resources(place),
        *definitions.resources(wanted),
        *(each.resource() for each in wanted),
    ]


def things(place: Place) -> list[Resource]:
    """All but the alerts, the roles and GitHub's side."""
    return [*foundation.foundation(place), *workplace.workplace(place)]


def grants(place: Place, github_side: GitHub | None) -> list[roles.Grant]:
    """All roles: of the two workloads, and of GitHub's environments where they are asked for."""
    return [*roles.workload_grants(place), *(roles.github_grants(place, github_side.side) if github_side else [])]


def _roles(wanted: list[roles.Grant], done: list[Provisioned]) -> list[Role]:
    states = {(each.name, each.where): each.state for each in done if each.kind == "role assignment"}
    return [
        Role(
            who=each.who,
            role=each.role,
            scope=each.wanted.scope,
            why=each.wanted.why,
            replaces=each.wanted.replaces,
            state=states[f"{each.who}: {each.wanted.name}", each.wanted.scope],
        )
        for each in wanted
    ]


def _clients(place: Place, github_side: GitHub) -> dict[str, str]:
    """The client id of each environment's identity, for `provision github --client-id`."""
    with azure_ml.explained("Reading the identities of GitHub's environments"):
        return {
            each.name: str(place.identity(names.github_identity(each.name)).client_id)
            for each in github_side.side.environments
            if each.azure
        }
