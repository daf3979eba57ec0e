"""The TLS server's application: finds the handler, checks the token, runs it, logs both sides."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from emulator import access, providers
from emulator.context import Emulator
from emulator.errors import ArmError
from emulator.fault_injection import WIRE, hang_up, lost, refused
from emulator.identity import AUDIENCES
from emulator.request_log import RequestLog, readable, redact
from emulator.routing import ARM, ML, SCORING, SERVERLESS, Call, find

# Modules that register routes, in the order in which their routes are tried.
HANDLERS = (
    "login",
    "operations",
    "subscriptions",
    "identities",
    "providers",
    "role_definitions",
    "role_assignments",
    "permissions",
    "alerts",
    "autoscale",
    "generic",
    "workspaces",
    "compute",
    "quota",
    "datastores",
    "registries",
    "assets",
    "jobs",
    "history",
    "tracking",
    "endpoints",
    "deployments",
    "scoring",
    "marketplace",
    "serverless_endpoints",
    "serverless_scoring",
    "monitor",
    "monitor_logs",
    "blob_access",
)
METHODS = ["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"]
log = logging.getLogger(__name__)


def load_handlers() -> list[str]:
    """Import every handler module that exists; returns their names."""
    present = [name for name in HANDLERS if importlib.util.find_spec(f"emulator.{name}")]
    for name in present:
        importlib.import_module(f"emulator.{name}")
    return present


def claims_for(emulator: Emulator, audience: str | None, authorization: str) -> dict[str, Any]:
    """Claims of the bearer token, which must be for `audience` ("arm", "ml", "arm|ml"); {} when that is None."""
    if audience is None:
        return {}
    accepted = [url for name in audience.split("|") for url in AUDIENCES[name]]
    return emulator.tokens.verify(authorization, accepted)


def check_arm(emulator: Emulator, args: dict[str, str], query: Mapping[str, str]) -> None:
    """ArmError for what ARM itself refuses before a provider sees the request."""
    if "api-version" not in query:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise ArmError(400, "MissingApiVersionParameter", message)
    if args.get("sub", "").lower() not in ("", emulator.settings.subscription_id):
        raise ArmError(404, "SubscriptionNotFound", f"The subscription '{args['sub']}' could not be found.")


async def answer(emulator: Emulator, request: Request, host: str, body: bytes) -> tuple[Response, dict[str, Any]]:
    """Run the handler; what it raises becomes an answer in Azure's shape."""
    path, claims = request.scope["path"], {}
    try:
        match = find(request.method, host, path)
        claims = claims_for(emulator, match.audience, request.headers.get("authorization", ""))
        if match.audience and re.fullmatch(ARM, host):
            check_arm(emulator, match.args, request.query_params)
        call = Call(
            method=request.method,
            host=host,
            path=path,
            query=dict(request.query_params),
            headers=request.headers,
            body=body,
            args=match.args,
            claims=claims,
            emulator=emulator,
            raw_path=request.scope.get("raw_path", path.encode()).decode("latin-1"),
            raw_query=request.scope["query_string"].decode("latin-1"),
            gone=lambda: _gone(request),
        )
        if match.audience and re.fullmatch(ARM, host):
            access.check(call)
            providers.check(call)
        if match.audience and re.fullmatch(ML, host):
            access.check_tracking(call)
        if inspect.iscoroutinefunction(match.handler):
            return await match.handler(call), claims
        return await run_in_threadpool(match.handler, call), claims
    except ArmError as error:
        return JSONResponse(error.body(), error.status), claims
    except Exception as error:
        log.exception("%s %s%s", request.method, host, path)
        return JSONResponse(
            ArmError(500, "InternalServerError", f"The local Azure ML failed: {error!r}").body(), 500
        ), claims


async def _gone(request: Request) -> None:
    """Return when the client closes its connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class App(Starlette):
    """Starlette, with the server's own `send` kept where a handler can find the connection (see `hang_up`)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[WIRE] = send
        await super().__call__(scope, receive, send)


def make_app(emulator: Emulator) -> Starlette:
    load_handlers()
    records = RequestLog(emulator.settings.home / "requests.jsonl")

    async def dispatch(request: Request) -> Response:
        started, body = time.time(), await request.body()
        host = request.headers.get("host", "").rsplit(":", 1)[0].lower()
        scoring = (
            re.fullmatch(f"{SCORING}|{SERVERLESS}", host) is not None
        )  # tickets are nobody's business but the model's
        faults = None if scoring else emulator.faults
        instead = faults and refused(faults, request.method, host, request.scope["path"])
        response, claims = (instead, {}) if instead else await answer(emulator, request, host, body)
        response.headers.setdefault("x-ms-request-id", str(uuid.uuid4()))
        records.write(
            started,
            method=request.method,
            host=host,
            path=request.scope["path"],
            query=redact(dict(request.query_params)),
            client=claims.get("appid"),
            status=response.status_code,
            request=None if scoring else readable(body),
            response=None if scoring else readable(bytes(getattr(response, "body", b""))),
        )
        if faults and not instead and lost(faults, request.method, host, request.scope["path"]):
            hang_up(request)
        return response

    handler: Callable[[Request], Awaitable[Response]] = dispatch
    return App(routes=[Route("/{path:path}", handler, methods=METHODS)])
