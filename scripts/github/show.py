"""The plan as lines to read and to copy: the `gh api` call of each change, the `az` commands of each identity."""

import json
import shlex
from collections.abc import Iterator

from scripts.github.setup import Credential, GitHubSetUp, Grant


def plan(done: GitHubSetUp) -> Iterator[str]:
    """Each call as it would be run. JSON goes in on stdin, so that no value is in the list of processes."""
    for call in done.calls:
        yield f"\n# {call.why}"
        line = f"gh api --method {call.method} {shlex.quote(call.path)}"
        yield line if call.body is None else f"{line} --input - <<< {shlex.quote(json.dumps(call.body))}"


def credentials(done: GitHubSetUp) -> Iterator[str]:
    """What each environment's identity needs in Azure, as commands for a person who may create identities there."""
    yield f"\nIn Azure, once for each environment of {done.repository} (replace the words in capitals):"
    for each in done.credentials:
        yield f"\n# {each.environment}: may {each.may}"
        yield from _identity(done.repository, each)
        for grant in each.grants:
            yield from _grant(grant)


def _identity(repository: str, each: Credential) -> Iterator[str]:
    name = f"id-{repository.rpartition('/')[2]}-{each.environment}"
    yield f"az identity create --resource-group RESOURCE_GROUP --name {name} --query clientId --output tsv"
    yield (
        f"az identity federated-credential create --resource-group RESOURCE_GROUP --identity-name {name} "
        f"--name github-{each.environment} --issuer {each.issuer} --subject {shlex.quote(each.subjects[0])} "
        f"--audiences {each.audience}"
    )
    for other in each.subjects[1:]:
        yield f"#   its subject is {other} when the repository was made since July 2026; sign in to gh to be told"


def _grant(grant: Grant) -> Iterator[str]:
    if grant.actions:
        definition = {
            "Name": grant.role,
            "Description": "Made by the release train's set-up.",
            "Actions": grant.actions,
            "AssignableScopes": ["/subscriptions/SUBSCRIPTION_ID/resourceGroups/RESOURCE_GROUP"],
        }
        yield f"az role definition create --role-definition {shlex.quote(json.dumps(definition))}"
    scope = shlex.quote(f"ID OF THE {grant.scope.upper()}")
    yield f"az role assignment create --assignee CLIENT_ID --role {shlex.quote(grant.role)} --scope {scope}"
