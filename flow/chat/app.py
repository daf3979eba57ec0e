"""The page's server: one static page, and a way for it to ask the endpoint. It keeps nothing and logs no text."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .events import Busy, Pieces, Streams
from .guard import MAX_BODY, Guard, problem
from .request import Wrong, parse_ask, parse_feedback

PAGE = Path(__file__).resolve().parent / "page"
FILES = {
    "/": "index.html",
    "/chat.css": "chat.css",
    "/chat.js": "chat.js",
    "/ask.js": "ask.js",
    "/icon.svg": "icon.svg",
}


def build(stream: Callable[..., Pieces], rate: Callable[[str, str, str], str], shown: Mapping[str, Any]) -> Starlette:
    """The ASGI app. `stream` is asking's, `rate` opinion's; `shown` is what the page is told at its start: endpoint,
    colours, system prompt.
    """
    streams = Streams()

    async def settings(_request: Request) -> Response:
        return JSONResponse(dict(shown))

    async def chat(request: Request) -> Response:
        body = await limited(request)
        if body is None:
            return problem(413, f"The conversation is longer than {MAX_BODY // 1024} kB: begin a new one.")
        try:
            asked = parse_ask(body)
            events = streams.start(stream(asked.messages, asked.decoding, deployment=asked.deployment))
        except ValueError as error:  # ours, or asking's about the settings
            return problem(400, str(error))
        except Busy:
            return problem(429, "Too many answers are under way: stop one, or wait.")
        return StreamingResponse(events, media_type="text/event-stream")

    async def feedback(request: Request) -> Response:
        try:
            opinion = parse_feedback(await limited(request) or b"")
        except Wrong as error:
            return problem(400, str(error))
        wrong = await run_in_threadpool(rate, *opinion)
        return problem(502, wrong) if wrong else JSONResponse({"feedback": "noted"})

    files = [Route(path, _file(name)) for path, name in FILES.items()]
    asked = [("/api/chat", chat), ("/api/feedback", feedback)]
    routes = [*files, Route("/api/settings", settings), *(Route(path, to, methods=["POST"]) for path, to in asked)]
    return Starlette(routes=routes, middleware=[Middleware(Guard)])


async def limited(request: Request) -> bytes | None:
    """The body, or None as soon as it is longer than MAX_BODY: a length that was announced need not be true."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _file(name: str) -> Callable[[Request], Any]:
    async def send(_request: Request) -> Response:
        return FileResponse(PAGE / name)

    return send
