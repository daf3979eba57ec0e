"""Names that `provision` gives: worked out of the settings, so that a second run finds what the first one made."""

import re
import uuid
from collections.abc import Mapping

from scripts import digests
from scripts.settings import Settings

# On what `provision` creates. `--destroy` deletes nothing without it.
MADE_BY = {"made-by": "release-train"}
NOT_OURS = "not made by provision"
TRAIN_TAG = "train"
NAMESPACE = uuid.UUID("5f0c9c5e-6e0d-5a0b-9a3c-6d1f1d0a7c11")  # any, but always the same


def train_tag(settings: Settings) -> dict[str, str]:
    """By this `reap` knows an endpoint as this train's own, when no settings file names it any more."""
    return {TRAIN_TAG: settings.experiment}


def foreign(resource: object) -> str:
    """Why this is not for `provision` to delete; "" when it made it."""
    tags: Mapping[str, str] = getattr(resource, "tags", None) or {}
    return "" if all(tags.get(name) == value for name, value in MADE_BY.items()) else NOT_OURS


def registry(settings: Settings) -> str:
    """Registries share one name space in all of Azure: 5 to 50 letters and digits."""
    own = digests.of_values(settings.subscription_id, settings.resource_group, settings.workspace)[:8]
    return f"cr{re.sub('[^a-z0-9]', '', settings.workspace.lower())[:30]}{own}"


def github_identity(environment: str) -> str:
    """The identity that jobs of a GitHub environment sign in as."""
    return f"id-github-{environment}"


def action_group(settings: Settings) -> str:
    """Who is told of the endpoint's alerts."""
    return f"ag-{settings.endpoint}"


def alert(settings: Settings, what: str) -> str:
    return f"{settings.endpoint}-{what}"


def custom_role(settings: Settings, role: str) -> str:
    """Names of custom roles are unique in a whole directory, so the group is part of it."""
    return f"{role} ({settings.resource_group})"


def guid(*parts: str) -> str:
    """The id of a role or an assignment, the same whenever its parts are: creating it twice makes one."""
    return str(uuid.uuid5(NAMESPACE, "|".join(part.lower() for part in parts)))
