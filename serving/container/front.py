"""What stands before vLLM's chat route (`--middleware front.Front`), so that it answers as our own server does.

- A message that contains the text of a control token (`<|end|>`) is refused with 400: vLLM would take it for the token,
  and so a user could end or open a turn. Our own server tells them apart (serving/prompts.py).
- A request that names no model means the one that was released: with an adapter vLLM would ask the bare base model.

Everything else is vLLM's. Environment (start.py): FRONT_MODEL, FRONT_CONTROL (a JSON list).
"""

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ROUTE = "/v1/chat/completions"
MOST_BYTES = 4_000_000  # of a body; Azure's own limit is lower


class Front:
    """An ASGI application around another one."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app, self.model = app, os.environ.get("FRONT_MODEL", "")
        self.control = tuple(json.loads(os.environ.get("FRONT_CONTROL") or "[]"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != ROUTE:
            await self.app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > MOST_BYTES:
                await _refuse(send, 413, f"The body has over {MOST_BYTES} bytes.")
                return
            if not message.get("more_body"):
                break
        body, problem = self.looked_at(body)
        if problem:
            await _refuse(send, 400, problem)
            return
        headers = [
            (key, value) for key, value in scope["headers"] if key not in (b"content-length", b"transfer-encoding")
        ]
        headers.append((b"content-length", str(len(body)).encode()))
        sent = False

        async def replay() -> MutableMapping[str, Any]:
            nonlocal sent
            if sent:
                return await receive()  # whether the client is still there
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app({**scope, "headers": headers}, replay, send)

    def looked_at(self, body: bytes) -> tuple[bytes, str]:
        """The body to pass on, and one sentence if it is refused. What is no JSON object is the server's to refuse."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return body, ""
        if not isinstance(data, dict):
            return body, ""
        messages = data.get("messages")
        for at, message in enumerate(messages if isinstance(messages, list) else []):
            said = json.dumps(message, ensure_ascii=False)
            if any(token in said for token in self.control):
                return body, f'"messages" entry {at} contains a control token of the model; remove it.'
        if self.model and not data.get("model"):
            body = json.dumps({**data, "model": self.model}).encode()
        return body, ""


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": {"code": status, "message": sentence}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
