"""A server over TLS that answers as Azure AI Content Safety documents it: it grades by words, or fails as told."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

WORDS = {"Violence": "punch", "Sexual": "nude", "SelfHarm": "wrists", "Hate": "vermin"}
ATTACK = "takeover"
LONGEST = 10_000


@dataclass
class SafetyServer:
    """A text's severity in a category is how often its word is there; a prompt with ATTACK in it is one.

    `reply` replaces the analysis if set, `shield` the whole reply about attacks; `delay` comes before every reply, in
    seconds.
    """

    url: str = ""
    ca: Path = Path()
    failures: list[tuple[int, str | None]] = field(default_factory=list)
    reply: Any = None
    shield: Any = None
    delay: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def safety_server(folder: Path) -> Iterator[SafetyServer]:
    state = SafetyServer(ca=folder / "safety-ca.pem")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append({"path": self.path, "headers": headers, "body": body})
            time.sleep(state.delay)
            if state.failures:
                status, after = state.failures.pop(0)
                return self.answer(status, {"error": {"code": "Test", "message": "said no"}}, after)
            if len(body.get("text") or body["userPrompt"]) > LONGEST:
                return self.answer(400, {"error": {"code": "InvalidRequestBody", "message": "The text is too long."}})
            if "text:shieldPrompt" in self.path:
                found = {
                    "userPromptAnalysis": {"attackDetected": ATTACK in body["userPrompt"]},
                    "documentsAnalysis": [],
                }
                return self.answer(200, found if state.shield is None else state.shield)
            graded = [{"category": name, "severity": min(7, body["text"].count(word))} for name, word in WORDS.items()]
            asked = [each for each in graded if each["category"] in body["categories"]]
            analysis = asked if state.reply is None else state.reply
            return self.answer(200, {"blocklistsMatch": [], "categoriesAnalysis": analysis})

        def answer(self, status: int, body: dict[str, Any], after: str | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if after is not None:
                self.send_header("Retry-After", after)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_args: Any) -> None:
            pass

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(state.ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    state.url = f"https://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
