"""What the checks know of their surroundings."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from scripts import settings

if TYPE_CHECKING:
    from scripts.provision import Place

AT_ONCE = 8  # questions that one check has under way
Thing = TypeVar("Thing")
Answer = TypeVar("Answer")


class Skip(Exception):
    """A check that cannot tell anything here; str() says why. Neither healthy nor a failure."""


@dataclass(frozen=True)
class Context:
    """`environment` is the GitHub environment of this job, "" when not told; `github` None: only where gh works."""

    config: Path | None
    environment: str = ""
    github: bool | None = None
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)
    recipe: str = ""  # whose route is looked at as well
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _place: "list[Place]" = field(default_factory=list, repr=False, compare=False)

    @cached_property
    def settings(self) -> settings.Settings:
        """The settings of the environment. Raises InvalidInput as `settings.load` does."""
        return settings.load(self.config)

    @property
    def in_github(self) -> bool:
        return self.variables.get("GITHUB_ACTIONS") == "true"

    @cached_property
    def place(self) -> "Place":
        """The one way to Azure of all checks: one sign-in, and its clients are imported by one check alone."""
        from scripts.provision import Place

        with self._lock:
            if self._place:
                return self._place[0]
            place = Place(self.settings)
            for _ in (place.ml, place.management, place.msi, place.authorization):
                pass
            self._place.append(place)
            return place

    def each(self, ask: Callable[[Thing], Answer], things: Iterable[Thing]) -> list[Answer]:
        """What Azure says of each thing, several asked at once; in their order. Raises what the first one raises."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(ask, things))
