"""Keeps other pages out: the browser's own user may use this server, a site that the browser also shows may not."""

import re
from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 512 * 1024  # bytes; a conversation that fills Phi's context of 128k tokens has about as many
# By name and not by number: a page elsewhere can let its own name point here (DNS rebinding). Any port, so that the
# page works through a forwarded one.
HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.ASCII)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def refusal(method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
    """(HTTP status, sentence) for a request that is not our own page's; `headers` with names in lower case."""
    host = headers.get("host", "")
    if not HOST.fullmatch(host):
        return 421, "This server answers only under 127.0.0.1 and localhost."
    origin = headers.get("origin", f"http://{host}")
    site = headers.get("sec-fetch-site", "same-origin")
    if origin != f"http://{host}" or site not in ("same-origin", "none"):
        return 403, "This server answers only its own page."
    if method == "POST" and headers.get("content-type", "").split(";")[0].strip() != "application/json":
        return 415, "The request must be JSON (Content-Type: application/json)."  # a form of another site cannot be
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BODY:
        return 413, f"The conversation is too long for this page (more than {MAX_BODY // 1024} kB): begin a new one."
    return None


class Guard:
    """ASGI middleware: refuses what is not ours, gives every reply the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if refused := refusal(scope["method"], headers):
            await problem(*refused)(scope, receive, answer)
        else:
            await self.app(scope, receive, answer)


def problem(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"problem": sentence}, status)
