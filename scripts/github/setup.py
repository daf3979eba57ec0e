"""`provision github`: the plan of a repository, and carrying it out with `gh`."""

import datetime as dt
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts import records
from scripts.errors import InvalidInput
from scripts.github import api
from scripts.github.environments import FILE, IDENTITY, GitHubSide, Identity, subjects
from scripts.github.plan import Change, Values, changes

Tell = Callable[[str], None]


class Call(records.Part):
    """One `gh api` call. `body` is what goes in on stdin."""

    why: str
    method: str
    path: str
    body: dict[str, Any] | None
    done: bool


class Grant(records.Part):
    """A role on a scope; with `actions` a role of our own, which has to be defined first."""

    role: str
    scope: str
    actions: list[str]


class Credential(records.Part):
    """What one environment's Azure identity must trust and be allowed; a person creates it in Azure."""

    environment: str
    issuer: str
    subjects: list[str]
    audience: str
    may: str
    grants: list[Grant]


class GitHubSetUp(records.Record):
    """`github.json`: what was different, what was done, what a person has to do."""

    repository: str
    compared: bool
    applied: bool
    calls: list[Call]
    left: list[str]
    credentials: list[Credential]


def set_up(
    side: GitHubSide,
    identity: Identity,
    *,
    apply: bool = False,
    client_ids: Sequence[str] = (),
    tell: Tell = lambda _: None,
) -> GitHubSetUp:
    """Compare, and with `apply` make GitHub like the data. Raises InvalidInput, or GitHubFailed when GitHub does."""
    values = given_values(side, client_ids)
    why_not = api.unavailable()
    if why_not and apply:
        raise InvalidInput(why_not)
    if why_not:
        tell(f"GitHub was not asked, so this is everything: {why_not}")
        found = list(changes(side, identity.name, lambda _: None, lambda kind, name: f"ID OF {kind} {name}", values))
    else:
        identity = seen(identity, needs_admin=apply)
        found = list(changes(side, identity.name, api.find, lambda *who: id_of(identity.owner, *who), values))
    calls = []
    for each in found:
        if isinstance(each, Change):
            if apply:
                api.call(each.method, each.path, each.body)
                tell(f"mended: {each.why}")
            calls.append(Call(why=each.why, method=each.method, path=each.path, body=each.body, done=apply))
    return GitHubSetUp(
        repository=identity.name,
        compared=not why_not,
        applied=apply,
        calls=calls,
        left=[each for each in found if isinstance(each, str)],
        credentials=credentials(side, identity),
    )


def known(identity: Identity) -> Identity:
    """The repository with its ids where gh is signed in; else as it is, and both forms of the subject may be true."""
    return identity if api.unavailable() else seen(identity)


def seen(identity: Identity, *, needs_admin: bool = False) -> Identity:
    """The repository with the ids that GitHub gives it. Raises InvalidInput when there is none, or too few rights."""
    answer = api.find(f"repos/{identity.name}")
    if answer is None:
        raise InvalidInput(f"GitHub has no repository {identity.name}, or you may not see it: check --repository.")
    if needs_admin and not (answer.get("permissions") or {}).get("admin"):
        raise InvalidInput(f"--apply needs admin rights on {identity.name}, which whoever is signed in to gh lacks.")
    created = dt.datetime.fromisoformat(answer["created_at"].replace("Z", "+00:00")).date()
    owner, _, repo = answer["full_name"].partition("/")  # as GitHub spells it: Azure compares letter by letter
    return replace(
        identity, owner=owner, repo=repo, owner_id=answer["owner"]["id"], repo_id=answer["id"], created=created
    )


def id_of(owner: str, kind: str, name: str) -> int:
    """The id of a reviewer. Raises InvalidInput for one that GitHub does not know."""
    path = f"users/{name}" if kind == "User" else f"orgs/{owner}/teams/{name}"
    answer = api.find(path)
    if answer is None:
        where = f"a team {name} in {owner}" if kind == "Team" else f"a user {name}"
        raise InvalidInput(f"{FILE}: GitHub does not know {where}: create it, or name another reviewer there.")
    return int(answer["id"])


def given_values(side: GitHubSide, client_ids: Sequence[str]) -> Values:
    """Values for variables: the repository's from this process's environment, client ids from ENVIRONMENT=ID."""
    values = {("", name): os.environ[name] for name in side.repository.variables if os.environ.get(name)}
    for pair in client_ids:
        name, _, client = pair.partition("=")
        environment = side.environment(name)
        if environment is None or IDENTITY not in environment.variables or not client:
            wanted = ", ".join(each.name for each in side.environments if IDENTITY in each.variables)
            raise InvalidInput(f"--client-id takes ENVIRONMENT=CLIENT_ID for one of {wanted}, not {pair!r}.")
        values[(name, IDENTITY)] = client
    return values


def recorded(path: Path | None) -> list[str]:
    """ENVIRONMENT=ID of each identity that `provision` recorded. Raises InvalidInput for any other file."""
    if path is None:
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["clients"]
        pairs = [f"{environment}={client}" for environment, client in found.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pairs = []
    if not pairs:
        raise InvalidInput(
            f"{path} names no client ids: write it with `python -m scripts provision --repository OWNER/NAME`."
        )
    return pairs


def credentials(side: GitHubSide, identity: Identity) -> list[Credential]:
    """What each environment's identity must trust and be allowed in Azure."""
    return [
        Credential(
            environment=each.name,
            issuer=side.oidc.issuer,
            subjects=subjects(side, identity, each.name),
            audience=side.oidc.audience,
            may=each.azure.may,
            grants=[Grant(role=role.name, scope=role.scope, actions=role.actions) for role in each.azure.roles],
        )
        for each in side.environments
        if each.azure
    ]
