"""A small OpenAI-compatible server whose model is a rule: it reads the rendered prompt and answers as a judge would."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Where the libraries' prompts put what is judged, behind their examples; promptflow-evals' first, then its successor's.
LAYOUTS = [
    r'Task Input:\n\{"CONTEXT": (?P<context>.*), "QUESTION": "", "ANSWER": (?P<answer>.*)\}\nReminder',
    r"\ncontext: (?P<context>[^\n]*)\nquestion: (?P<query>[^\n]*)\nanswer: (?P<answer>[^\n]*)\nstars:\s*$",
    r"\nquestion: (?P<query>[^\n]*)\nanswer: (?P<answer>[^\n]*)\nstars:\s*$",
    r"# Data\nCONTEXT: (?P<context>[^\n]*)\nRESPONSE: (?P<answer>[^\n]*)\n",
    r"\n(?:QUERY|CONVERSATION_HISTORY): (?P<query>[^\n]*)\nRESPONSE: (?P<answer>[^\n]*)\n",
    r"# Data\nRESPONSE: (?P<answer>[^\n]*)\n",
]


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def rule(metric: str, answer: str, query: str = "", context: str = "") -> int:
    """The judge's opinion, the same whatever the prompt's layout."""
    other = {"groundedness": context, "relevance": query, "coherence": query}.get(metric)
    if other is None:  # fluency: a sentence begins with a capital and ends with a stop
        return 1 + 2 * answer[:1].isupper() + 2 * answer.endswith(".")
    return 1 + round(4 * len(words(answer) & words(other)) / max(1, len(words(answer))))


def metric_of(prompt: str) -> str:
    """Which metric the prompt is about: the one it names first. Only promptflow-evals' groundedness names none."""
    named = {name: prompt.lower().find(name) for name in ("groundedness", "relevance", "coherence", "fluency")}
    found = {name: place for name, place in named.items() if place >= 0}
    return min(found, key=lambda name: found[name]) if found else "groundedness"


@dataclass
class JudgeServer:
    """`failures` are (status, Retry-After) for the next requests; `reply` replaces the judge's words if set."""

    failures: list[tuple[int, str | None]] = field(default_factory=list)
    reply: str | None = None
    delay: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def judge(self, body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        found = next(match for layout in LAYOUTS if (match := re.search(layout, prompt)))
        score = rule(metric_of(prompt), **{name: text.strip() for name, text in found.groupdict().items()})
        as_json = (body.get("response_format") or {}).get("type") == "json_object"
        return json.dumps({"reason": "by the rule", "score": score, "status": "completed"}) if as_json else str(score)


@contextmanager
def judge_server() -> Iterator[JudgeServer]:
    state = JudgeServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with state.lock:
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
                state.requests.append({"path": self.path, "headers": headers, "body": body})
                failure = state.failures.pop(0) if state.failures else None
            time.sleep(state.delay)
            with state.lock:
                state.at_once -= 1
            if failure:
                return self.answer(failure[0], {"error": {"message": "said no", "type": "test"}}, failure[1])
            content = state.judge(body) if state.reply is None else state.reply
            message = {"role": "assistant", "content": content}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            head = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
            return self.answer(200, {**head, "choices": [choice], "usage": usage})

        def answer(self, status: int, body: dict[str, Any], retry_after: str | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            with suppress(OSError):  # whoever asked has stopped waiting
                self.wfile.write(data)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
