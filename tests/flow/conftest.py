"""A scripted endpoint over real HTTP, and the node signed in as nobody."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from eval import promptflow_home

promptflow_home.prepare()  # before the node imports promptflow, which would settle on the user's home


@dataclass
class Endpoint:
    """Replies are (status, headers, body), used in order; the last one repeats."""

    uri: str = ""
    replies: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
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
            data = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.uri = f"http://127.0.0.1:{server.server_port}/score"
    yield state
    server.shutdown()
    server.server_close()
