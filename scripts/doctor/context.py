"""What the checks know of their surroundings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from scripts import settings


class Skip(Exception):
    """A check that cannot tell anything here; str() says why. Neither healthy nor a failure."""


@dataclass(frozen=True)
class Context:
    """`environment` is the GitHub environment of this job, "" when not told; `github` None: only where gh works."""

    config: Path | None
    environment: str = ""
    github: bool | None = None
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @cached_property
    def settings(self) -> settings.Settings:
        """The settings of the environment. Raises InvalidInput as `settings.load` does."""
        return settings.load(self.config)

    @property
    def in_github(self) -> bool:
        return self.variables.get("GITHUB_ACTIONS") == "true"
