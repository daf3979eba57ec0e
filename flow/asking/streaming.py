"""Ask the endpoint and give the text on as it comes: server-sent events with OpenAI's chunks.

The try that gave out text is the last one: a reader who has seen half an answer must not get another one after it.
"""

import json
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import httpx

from . import tracing
from .calling import (
    Decoding,
    Message,
    answered,
    headers_for,
    http,
    lost,
    persistent,
    refused,
    request_body,
    since,
    timeout,
)
from .replies import BLOCKED, Told, events, read, who, written
from .result import NoAnswer, Result
from .settings import Endpoint, endpoint
from .statuses import FILTERED, error, meaning, of_code

STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
LONGEST = 600.0  # seconds of a stream: an endpoint that drips for longer is given up
CUT = "the endpoint's stream ended in the middle of the answer"
Pieces = Generator[str | Result, None, None]


def stream(
    messages: Sequence[Message], decoding: Decoding | None = None, *, deployment: str = "", uri: str = "", key: str = ""
) -> Pieces:
    """The answer's pieces as they come, and at the end the Result with all of it. One piece where the endpoint does not
    stream. Close the iterator to stop the endpoint. Raises ValueError for a wrong input or set-up, at once."""
    where = endpoint(uri, deployment, key)
    body = request_body(messages, decoding, where)
    pieces = _pieces(where, body) if where.shape == "openai" else _whole(where, body)
    return _traced(pieces, tracing.begin("stream"))


def _whole(where: Endpoint, body: dict[str, Any]) -> Pieces:
    """The samples' shapes know no streams."""
    result = answered(where, body)
    if result.answer:
        yield result.answer
    yield result


def _traced(pieces: Pieces, end: tracing.End) -> Pieces:
    result: Result | None = None
    with closing(pieces):
        try:
            for piece in pieces:
                result = piece if isinstance(piece, Result) else None
                yield piece
        finally:
            end(result)


def _pieces(where: Endpoint, body: dict[str, Any]) -> Pieces:
    with ExitStack() as held:
        started = time.perf_counter()
        try:
            response = persistent(lambda: _open(where, body, held))
        except NoAnswer as problem:
            yield Result("", "infra_error", detail=str(problem))
            return
        if isinstance(response, Result):
            if response.answer:
                yield response.answer
            yield response
            return
        yield (yield from _told(response, started))


def _open(where: Endpoint, body: dict[str, Any], held: ExitStack) -> httpx.Response | Result:
    """A stream that has begun, or what came of it where the reply is not one. Raises NoAnswer."""
    started = time.perf_counter()
    try:
        response = _send(where, body | STREAMED)
        try:
            if response.status_code == httpx.codes.OK and "event-stream" in response.headers.get("content-type", ""):
                held.callback(response.close)
                return response
            response.read()
        except BaseException:
            response.close()
            raise
        if _knows_no_streams(response):
            response = _send(where, body)
            response.read()
    except httpx.HTTPError as problem:
        raise lost(problem) from problem
    took = since(started)
    if response.status_code == httpx.codes.OK:
        return read(response.text, response.headers, took)
    return refused(response, took)


def _knows_no_streams(response: httpx.Response) -> bool:
    """Whether a request was refused because of `stream`: then the answer is to be had whole."""
    if response.status_code == httpx.codes.OK or "stream" not in str(error(response.text).get("message", "")):
        return False
    return meaning(response.status_code, response.headers, response.text).status == "model_error"


def _send(where: Endpoint, body: dict[str, Any]) -> httpx.Response:
    request = http().build_request("POST", where.uri, json=body, headers=headers_for(where), timeout=timeout(where))
    return http().send(request, stream=True)


def _told(response: httpx.Response, started: float) -> Generator[str, None, Result]:
    told, texts = Told(), []
    problem = ""
    try:
        for event in events(response.iter_bytes()):
            if event == "[DONE]":
                break
            if text := written(told.take(json.loads(event))):
                texts.append(text)
                yield text
            if told.error:
                break
            if since(started) > LONGEST * 1000:
                problem = f"the answer took longer than {LONGEST:.0f} s"
                break
    except httpx.HTTPError as broken:
        problem = f"{CUT} ({type(broken).__name__})"
    except (ValueError, RecursionError):
        problem = "the endpoint's stream is not in OpenAI's format"
    common: dict[str, Any] = {"latency_ms": since(started), "tokens": told.tokens, "finish_reason": told.finish_reason}
    common |= who(response.headers, told.model)
    if told.error is not None:
        status = of_code(told.error.get("code")).status
        said = " ".join(str(told.error.get("message", "")).split())[:200]
        return Result("", status, detail=BLOCKED if status == "blocked" else f"the stream broke off: {said}", **common)
    if told.finish_reason == FILTERED:
        return Result("", "blocked", detail=BLOCKED, **common)
    if not told.finish_reason:  # a stream that was cut looks like one that ended
        return Result("", "infra_error", detail=problem or CUT, **common)
    probabilities = json.dumps(told.logprobs) if told.logprobs else ""
    return Result("".join(texts), "ok", logprobs=probabilities, **common)
