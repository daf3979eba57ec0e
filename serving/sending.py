"""How a reply leaves: as JSON or as a stream of events, with headers about the model and what the answer took."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import flask
from azureml_inference_server_http.api.aml_response import AMLResponse
from decoding import Request
from replies import Answer


@dataclass(frozen=True)
class Reply:
    """`body` is JSON, or the bytes of a stream when there is a `close`, which must be called in the end."""

    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    close: Callable[[], object] | None = None


class Stream(flask.Response):
    """A reply that goes out event by event. Application Insights, where it is on, would collect all of it first."""

    def get_data(self, as_text: bool = False) -> Any:
        return "" if as_text else b""


def response(reply: Reply, status: int, model: str, digest: str) -> flask.Response:
    """Every reply says which model it is from, as far as that is known."""
    if reply.close is None:
        sent: flask.Response = AMLResponse(reply.body, status, json_str=True)
    else:
        events: Iterator[bytes] = reply.body
        sent = Stream(events, status, mimetype="text/event-stream")
        sent.headers["cache-control"] = "no-cache"
        sent.call_on_close(reply.close)
    named = {"x-model": model, "x-model-digest": digest}
    sent.headers.update(reply.headers | {name: value for name, value in named.items() if value})
    return sent


def told(identity: str, requests: Sequence[Request], answers: Sequence[Answer] = ()) -> dict[str, str]:
    """Headers; those about the whole answer only where it is there, which at the beginning of a stream it is not."""
    headers = {
        "x-answer-id": identity,
        "x-prompt-tokens": str(sum(len(request.prompt) for request in requests)),
        "x-queue-ms": f"{max(request.started - request.asked for request in requests) * 1000:.1f}",
    }
    if answers:
        took = max(request.ended or time.monotonic() for request in requests) - min(r.started for r in requests)
        headers["x-completion-tokens"] = str(sum(answer.completion_tokens for answer in answers))
        headers["x-generation-ms"] = f"{took * 1000:.1f}"
    return headers


def seconds(request: Request) -> float:
    return (request.ended or time.monotonic()) - request.started


def connection() -> socket.socket | None:
    """The connection of the request under way, where gunicorn tells."""
    return flask.request.environ.get("gunicorn.socket") if flask.has_request_context() else None
