"""An identity in Azure for each GitHub environment that needs one, trusting exactly that environment's jobs."""

from typing import Any

from scripts.github.environments import GitHubSide, Identity, subjects
from scripts.provision import foundation, names
from scripts.provision.place import Place
from scripts.provision.resource import Resource


def identities(place: Place, side: GitHubSide, repository: Identity) -> list[Resource]:
    """The identity of each environment, then the credentials that let its jobs in."""
    found = []
    for each in side.environments:
        if each.azure:
            name = names.github_identity(each.name)
            found.append(foundation.identity(place, name, f"jobs of {each.name} sign in as this: {each.azure.may}"))
            found += credentials(place, side, repository, each.name)
    return found


def credentials(place: Place, side: GitHubSide, repository: Identity, environment: str) -> list[Resource]:
    """One for each form that the subject may have; a form whose ids nobody knows is left out."""
    known = [
        each for each in subjects(side, repository, environment) if "OWNER_ID" not in each and "REPO_ID" not in each
    ]
    plain = subjects(side, Identity(repository.owner, repository.repo), environment)[0]
    return [
        _credential(place, side, environment, f"github-{environment}{'' if each == plain else '-ids'}", each)
        for each in known
    ]


def _credential(place: Place, side: GitHubSide, environment: str, name: str, subject: str) -> Resource:
    group, identity = place.settings.resource_group, names.github_identity(environment)
    known = place.msi.federated_identity_credentials
    wanted = {"issuer": side.oidc.issuer, "subject": subject, "audiences": [side.oidc.audience]}

    def differs(found: Any) -> bool:
        return {"issuer": found.issuer, "subject": found.subject, "audiences": list(found.audiences)} != wanted

    return Resource(
        "federated credential",
        name,
        lambda: known.get(group, identity, name),
        lambda: known.create_or_update(group, identity, name, {"properties": wanted}),
        where=identity,
        why=subject,
        differs=differs,
    )
