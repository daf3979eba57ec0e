"""A scripted endpoint over real HTTP, and flow/ importable as an application has it."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eval import promptflow_home

FLOW = Path(__file__).parents[2] / "flow"
sys.path.insert(0, str(FLOW))
promptflow_home.prepare()  # before a node imports promptflow, which would settle on the user's home


@dataclass
class Endpoint:
    """Replies are (status, headers, body), used in order; the last one repeats. A body that is a list of bytes is sent
    piece by piece, as a stream: `pause` seconds between two, and its end is the end of the connection."""

    uri: str = ""
    replies: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    pause: float = 0.0
    sent: int = 0  # pieces of streams that went out
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)


def answering(text: str) -> tuple[int, dict[str, str], Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return 200, {}, {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 5}, "model": "m"}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint(replies=[answering("{}")])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
            status, headers, reply = state.replies.pop(0) if len(state.replies) > 1 else state.replies[0]
            if status == 0:  # hang up without a word
                self.connection.close()
                return
            if isinstance(reply, list):
                self.send_response(status)
                for name, value in {"content-type": "text/event-stream", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self._stream(reply)
                return
            data = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, pieces: list[bytes]) -> None:
            try:
                for piece in pieces:
                    self.wfile.write(piece)
                    state.sent += 1
                    time.sleep(state.pause)
            except OSError:  # nobody listens any more
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.uri = f"http://127.0.0.1:{server.server_port}/score"
    yield state
    server.shutdown()
    server.server_close()


def chunk(text: str | None = None, finish_reason: str | None = None, **more: Any) -> bytes:
    """A server-sent event as OpenAI's format has it."""
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice], **more}, ensure_ascii=False).encode() + b"\n\n"


END = chunk(finish_reason="stop")
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}\n\n'
DONE = b"data: [DONE]\n\n"
