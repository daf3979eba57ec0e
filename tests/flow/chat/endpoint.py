"""A streaming endpoint over real HTTP that does as the last message says.

It answers in OpenAI's chunk format, as each colour in turn or as the one that is asked for.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = {"blue": "smollm2-135m-instruct:1", "green": "ticket-triage:3"}
ANSWERS = {
    "blue": "I am sorry to hear that your parcel has not come. Please tell us when you ordered it.",
    "green": '{"category": "delivery", "priority": "high", "product": "Desk lamp", "order_id": "VT-10234"}',
}
BLOCKED = {"error": {"code": "content_filter", "message": "The prompt was refused: violence."}}
# What the last message is → (status, headers, body) instead of an answer.
SCRIPT: dict[str, tuple[int, dict[str, str], Any]] = {
    "hurt them": (424, {"ms-azureml-model-error-statuscode": "400"}, BLOCKED),
    "nobody home": (404, {}, {"error": {"message": "no such deployment"}}),
    "too long": (424, {"ms-azureml-model-error-statuscode": "413"}, {"error": {"message": "The prompt has 9 tokens."}}),
}


@dataclass
class Endpoint:
    """`requests`: (header of the deployment, body). `gone`: set when a caller hung up in the middle of an answer."""

    uri: str = ""
    pause: float = 0.01  # seconds between pieces
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    stop: Any = None


def start() -> Endpoint:
    state, turn = Endpoint(), itertools.cycle(("blue", "green"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked = self.headers.get("azureml-model-deployment", "")
            state.requests.append((asked, body))
            by = asked or next(turn)
            said = body["messages"][-1]["content"] if "messages" in body else ""
            if said in SCRIPT:
                status, headers, reply = SCRIPT[said]
                self.reply(status, {**headers, "azureml-model-deployment": by}, json.dumps(reply))
            elif "feedback" in body:
                self.reply(200, {"azureml-model-deployment": by}, '{"feedback": "noted"}')
            else:
                self.answer(by, said)

        def answer(self, by: str, said: str) -> None:
            pieces = list(map(str, range(3000))) if said == "count" else ANSWERS[by].split(" ")
            self.send_response(200)
            identity = {"x-answer-id": f"id-{len(state.requests)}", "azureml-model-deployment": by}
            for name, value in {"content-type": "text/event-stream", "connection": "close", **identity}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for at, piece in enumerate(pieces):
                    if said == "break off" and at == 3:
                        return
                    self.chunk(by, {"content": piece + " " * (at + 1 < len(pieces))})
                    time.sleep(state.pause)
                usage = {"prompt_tokens": 40, "completion_tokens": len(pieces), "total_tokens": 40 + len(pieces)}
                self.chunk(by, {}, "stop", usage)
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                state.gone.set()

        def chunk(self, by: str, delta: dict[str, str], reason: str | None = None, usage: Any = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            whole = {"object": "chat.completion.chunk", "model": MODELS[by], "choices": [choice], "usage": usage}
            self.wfile.write(f"data: {json.dumps(whole)}\n\n".encode())
            self.wfile.flush()

        def reply(self, status: int, headers: dict[str, str], text: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.uri = f"http://127.0.0.1:{server.server_port}/score"
    state.stop = lambda: (server.shutdown(), server.server_close())
    return state
