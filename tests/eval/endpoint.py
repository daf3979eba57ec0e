"""A local endpoint over real HTTP that answers with the number a text ends in, and prompts to ask it."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Stub(ThreadingHTTPServer):
    """Echoes {"n": N} for a text that ends in N; `statuses` makes texts fail, `delay` is the time to answer."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self) -> None:
        self.delay, self.statuses, self.bodies, self.headers_seen = 0.0, {}, [], []
        self.now, self.most, self.lock = 0, 0, threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server_port}/score"

    def handle_error(self, *_: object) -> None:
        """Whoever asked was killed before the answer."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        stub, text = self.server, body["messages"][-1]["content"]
        with stub.lock:
            stub.now += 1
            stub.most = max(stub.most, stub.now)
            stub.bodies.append(body)
            stub.headers_seen.append(dict(self.headers))
        time.sleep(stub.delay)
        number = re.search(r"\d+$", text)
        answer = json.dumps({"n": int(number.group()) if number else -1})
        reply = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
        reply["usage"] = {"prompt_tokens": 10, "completion_tokens": 2}
        status = stub.statuses.get(text, 200)
        error: object = "sorry"
        if status == "blocked":
            status, error = 400, {"code": "content_filter", "message": "no"}
        data = json.dumps(reply if status == 200 else {"error": error}).encode()
        with stub.lock:
            stub.now -= 1
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def prompts_file(path: Path, count: int) -> Path:
    """Every third conversation is a long one; the answer to the last is expected to be wrong."""
    rows = []
    for i in range(count):
        turn = [{"role": "user", "content": f"before {i}"}, {"role": "assistant", "content": "{}"}]
        expected = json.dumps({"n": i if i < count - 1 else "other"})
        last = [{"role": "user", "content": f"text {i}"}, {"role": "assistant", "content": expected}]
        messages = [{"role": "system", "content": "S"}, *(turn if i % 3 == 0 else []), *last]
        rows.append({"id": f"h-{i:03}", "cluster_id": f"c{i // 2}", "messages": messages, "slices": {"x": str(i % 2)}})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SIGNED_IN = """
import azure.identity
azure.identity.DefaultAzureCredential = lambda **_: None
azure.identity.get_bearer_token_provider = lambda *_: (lambda: "a-token")
"""
