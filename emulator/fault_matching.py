"""Which calls a fault strikes: does it mean this call, and is it its turn? Pure, and so the same in every run."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from emulator.faults import Fault, OfRequest

ABOUT = re.compile(
    r".*/onlineEndpoints/(?P<endpoint>[^/]+)(?:/deployments/(?P<deployment>[^/]+))?(?:/.*)?", re.IGNORECASE
)
CLUSTER = re.compile(r".*/workspaces/[^/]+/computes/(?P<cluster>[^/]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Seen:
    """One call, as faults match it. `endpoint`, `deployment` and `cluster` are "" when it is about none."""

    method: str
    host: str
    path: str
    endpoint: str = ""
    deployment: str = ""
    operation: str = ""
    cluster: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path}"


def seen(method: str, host: str, path: str, operation: str = "") -> Seen:
    """A request of the management API with the names in its path."""
    about = ABOUT.fullmatch(path) or CLUSTER.fullmatch(path)
    names = {key: value or "" for key, value in about.groupdict().items()} if about else {}
    return Seen(method, host, path, operation=operation, **names)


def matches(fault: Fault, call: Seen) -> bool:
    """Whether the call is one of those that the fault means: everything it says must hold."""
    if not _named(fault.endpoint, call.endpoint):
        return False
    if not all(_named(getattr(fault, what, None), getattr(call, what)) for what in ("deployment", "cluster")):
        return False
    if getattr(fault, "operation", None) not in (None, call.operation):
        return False
    if not isinstance(fault, OfRequest):
        return True
    what = "deployment" if call.deployment else "endpoint" if call.endpoint else ""
    return (
        fault.resource in (None, what)
        and fault.method in (None, call.method)
        and re.fullmatch(fault.host, call.host, re.IGNORECASE) is not None
        and (fault.path is None or re.search(fault.path, call.path, re.IGNORECASE) is not None)
    )


def _named(wanted: str | None, name: str) -> bool:
    return wanted is None or (name != "" and fnmatchcase(name.lower(), wanted.lower()))


@dataclass
class Turn:
    """How many matching calls a fault has seen and struck since it was read from the plan."""

    fault: Fault
    seed: int
    since: float
    matched: int = 0
    struck: int = 0
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.seed}:{self.fault.name}")  # noqa: S311 (chance, not secrecy)

    def comes(self, call: Seen, now: float) -> bool:
        """Count the call if the fault means it; whether it is to be struck. `struck` is for the caller to raise."""
        fault = self.fault
        if now - self.since < fault.after_seconds or not matches(fault, call):
            return False
        self.matched += 1
        if self.matched <= fault.after or (fault.times is not None and self.struck >= fault.times):
            return False
        return fault.share is None or self.dice.random() < fault.share
