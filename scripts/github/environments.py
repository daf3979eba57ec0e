"""`.github/environments.yaml` as a strict model, and who a job of an environment is for Azure."""

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scripts import yaml_files
from scripts.errors import InvalidInput

FILE = Path(".github/environments.yaml")
MOST_REVIEWERS = 6  # GitHub's limit
MOST_MINUTES = 43_200  # GitHub's limit: 30 days
IDENTITY = "AZURE_CLIENT_ID"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]
Variable = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]{0,99}$")]
Text = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reviewers(Part):
    users: list[Name] = []
    teams: list[Name] = []

    @property
    def all(self) -> list[tuple[str, str]]:
        """(type as GitHub writes it, name) of each."""
        return [("User", name) for name in self.users] + [("Team", name) for name in self.teams]


class Role(Part):
    """A role of an identity. With `actions` it is our own and has to be defined first; without, it is built in."""

    name: Text
    scope: Text
    why: Text
    actions: list[Text] = []
    replaces: str = ""  # the wider right that it spares
    when: Literal["always", "collecting", "filtering", "scaling"] = (
        "always"  # where the settings have deployments do so
    )


class Azure(Part):
    may: Text
    roles: list[Role] = Field(min_length=1)


class Environment(Part):
    name: Name
    why: Text
    reviewers: Reviewers
    prevent_self_review: bool
    branches: list[Text] = Field(min_length=1)
    wait_minutes: int = Field(ge=0, le=MOST_MINUTES)
    variables: list[Variable]
    azure: Azure | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.reviewers.all) > MOST_REVIEWERS:
            raise ValueError(f"{self.name} has more than {MOST_REVIEWERS} reviewers")
        if self.prevent_self_review and not self.reviewers.all:
            raise ValueError(f"{self.name} prevents self-review but has no reviewers")
        if (self.azure is None) != (IDENTITY not in self.variables):
            raise ValueError(f"{self.name} needs the variable {IDENTITY} exactly when it has an Azure identity")
        return self


class Oidc(Part):
    issuer: Text
    audience: Text
    subject: Text
    subject_with_ids: Text
    ids_since: dt.date


class Label(Part):
    name: Text
    color: Annotated[str, Field(pattern=r"^[0-9a-f]{6}$")]
    description: Annotated[str, Field(max_length=100)]


class Main(Part):
    """How the default branch is protected."""

    ruleset: Text
    required_check: Text
    approvals: int = Field(ge=0, le=10)
    code_owner_review: bool
    merge_queue: bool


class Repository(Part):
    variables: list[Variable]
    labels: list[Label]
    main: Main


class GitHubSide(Part):
    """All of the file."""

    oidc: Oidc
    repository: Repository
    environments: list[Environment] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [each.name.lower() for each in self.environments]  # GitHub does not tell cases apart
        if len(set(names)) != len(names):
            raise ValueError("an environment is named twice")
        for template in (self.oidc.subject, self.oidc.subject_with_ids):
            fill(template, Identity("owner", "repo", 1, 2), "environment")
        return self

    def environment(self, name: str) -> Environment | None:
        return next((each for each in self.environments if each.name == name), None)


@dataclass(frozen=True)
class Identity:
    """A repository as Azure knows it. Ids are None and `created` too when nobody could be asked."""

    owner: str
    repo: str
    owner_id: int | None = None
    repo_id: int | None = None
    created: dt.date | None = None

    @property
    def name(self) -> str:
        return f"{self.owner}/{self.repo}"


def load(path: Path = FILE) -> GitHubSide:
    """Raises InvalidInput naming the key that is wrong."""
    return yaml_files.read(GitHubSide, path, "the file of GitHub's environments")


def fill(template: str, identity: Identity, environment: str) -> str:
    """A subject template with its fields; what is not known stays as a word to replace. ValueError for other fields."""
    values = {
        "owner": identity.owner,
        "repo": identity.repo,
        "owner_id": identity.owner_id or "OWNER_ID",
        "repo_id": identity.repo_id or "REPO_ID",
        "environment": environment,
    }
    try:
        return template.format(**values)
    except (KeyError, IndexError) as error:
        raise ValueError(f"the subject template has the unknown field {error}") from None


def subjects(side: GitHubSide, identity: Identity, environment: str) -> list[str]:
    """The subject of an environment's jobs; both forms while it is not known when the repository was made."""
    plain = fill(side.oidc.subject, identity, environment)
    with_ids = fill(side.oidc.subject_with_ids, identity, environment)
    if identity.created is None:
        return [plain, with_ids]
    return [with_ids if identity.created >= side.oidc.ids_since else plain]


def this_repository(named: str | None = None) -> Identity:
    """OWNER/NAME from the option or GITHUB_REPOSITORY, with the ids that a job knows. Raises InvalidInput."""
    given = named or os.environ.get("GITHUB_REPOSITORY") or ""
    owner, slash, repo = given.partition("/")
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    if not given:
        raise InvalidInput("Which repository? Pass --repository OWNER/NAME or set GITHUB_REPOSITORY.")
    if not (owner and slash and repo) or not set(owner + repo) <= allowed or repo in (".", ".."):
        raise InvalidInput(f"{given!r} is not a repository: write --repository OWNER/NAME, for example acme/phi-train.")
    ids = [os.environ.get(name, "") for name in ("GITHUB_REPOSITORY_OWNER_ID", "GITHUB_REPOSITORY_ID")]
    owner_id, repo_id = (int(value) if value.isdigit() and not named else None for value in ids)
    return Identity(owner, repo, owner_id, repo_id)
