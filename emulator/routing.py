"""Which function answers which request: handlers register themselves with `@route`, the dispatcher asks `find`."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from emulator.errors import ArmError

if TYPE_CHECKING:
    from emulator.context import Emulator

ARM = r"management\.azure\.com"
ML = r"[a-z0-9.-]+\.api\.azureml\.ms"
SCORING = r"[a-z0-9-]+\.[a-z0-9]+\.inference\.ml\.azure\.com"
SERVERLESS = r"[a-z0-9-]+\.[a-z0-9]+\.models\.ai\.azure\.com"
REGISTRY = r"cert-[a-z0-9]+\.experiments\.azureml\.net"
LOGIN = r"login\.microsoftonline\.com"
GITHUB = r"pipelines\.actions\.githubusercontent\.com"
LOOPBACK = r"localhost|127\.0\.0\.1"
WORKSPACE = (
    r"(?P<wsid>/subscriptions/(?P<sub>[^/]+)/resourceGroups/(?P<rg>[^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/(?P<ws>[^/]+))"
)
GROUP = r"(?P<rgid>/subscriptions/(?P<sub>[^/]+)/resourceGroups/(?P<rg>[^/]+))"


@dataclass(frozen=True)
class Call:
    """One request, as a handler sees it. `path` is percent-decoded; `raw_path` and `raw_query` are as they came.

    `gone()` returns when the client closes its connection.
    """

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    args: dict[str, str]
    claims: dict[str, Any]
    emulator: Emulator
    raw_path: str = ""
    raw_query: str = ""
    gone: Callable[[], Awaitable[None]] | None = None

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; ArmError 400 when it is anything else."""
        try:
            value = json.loads(self.body)
        except ValueError as error:
            raise ArmError(400, "InvalidRequestContent", f"The request content is not valid JSON: {error}.") from error
        if not isinstance(value, dict):
            raise ArmError(400, "InvalidRequestContent", "The request content must be a JSON object.")
        return value


Handler = Callable[[Call], Any]
H = TypeVar("H", bound=Handler)


@dataclass(frozen=True)
class Route:
    methods: frozenset[str]
    host: re.Pattern[str]
    path: re.Pattern[str]
    audience: str | None
    handler: Handler


@dataclass(frozen=True)
class Match:
    handler: Handler
    audience: str | None
    args: dict[str, str] = field(default_factory=dict)


ROUTES: list[Route] = []


def route(methods: str, host: str, pattern: str, *, audience: str | None = "arm") -> Callable[[H], H]:
    """Register a handler for `methods` ("GET|POST") where host and path match the anchored, case-insensitive patterns.

    `audience` names whom the bearer token must be for ("arm", "ml", or "arm|ml" for either); None skips the check.
    The first registered match wins, so a module lists its narrow patterns before its wide ones.
    """

    def register(handler: H) -> H:
        hosts, paths = re.compile(host, re.IGNORECASE), re.compile(f"(?:{pattern})/?", re.IGNORECASE)
        ROUTES.append(Route(frozenset(methods.split("|")), hosts, paths, audience, handler))
        return handler

    return register


def find(method: str, host: str, path: str) -> Match:
    """The handler for a request. ArmError 405 when only other methods are served there, 404 when nothing is."""
    allowed: set[str] = set()
    for candidate in ROUTES:
        if not candidate.host.fullmatch(host):
            continue
        matched = candidate.path.fullmatch(path)
        if matched is None:
            continue
        if method in candidate.methods:
            args = {name: value or "" for name, value in matched.groupdict().items()}
            return Match(candidate.handler, candidate.audience, args)
        allowed |= candidate.methods
    if allowed:
        raise ArmError(405, "MethodNotAllowed", f"{method} is not served at {host}{path}, only {sorted(allowed)}.")
    raise ArmError(404, "EmulatorNotImplemented", f"The local Azure ML does not know {method} {host}{path}.")
