"""From the model's tokens to an answer, whole or as a stream, for who is still there and has not waited too long."""

import logging
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import TimeoutError as Late
from dataclasses import replace
from typing import Any

import replies
from decoding import Request
from replies import Answer, Heading
from screen import Undecided
from writing import Writer, whole

log = logging.getLogger("azmlinfsrv.serving")

Decode = Callable[[Sequence[int]], str]
TOO_LATE = "The answer took longer than SCORING_TIMEOUT_MS and was given up; ask for fewer tokens."
UNDECIDED = "The content filter could not judge this request; send it again later."
CONTENT_FILTER = "content_filter"  # OpenAI's and Azure OpenAI's word for it, as error code and as finish reason
FAILED = "The model failed on this request; the deployment's log says why. Send it again."


class Gone(Exception):
    """The client has closed its connection: nobody reads what would be said."""


class Filtered(Exception):
    """No more of this answer may go out; `what` is what was found in it."""

    def __init__(self, what: Any = None) -> None:
        super().__init__()
        self.what = what


def answered(requests: Sequence[Request], decode: Decode, stops: Sequence[str], deadline: float) -> list[Answer]:
    """The answers when all are there. Raises Late after `deadline` (time.monotonic()), Gone, what the model raised."""
    if stops:
        writers = [Writer(decode, stops) for _ in requests]
        told = ["".join(written(r, w, deadline)) for r, w in zip(requests, writers, strict=True)]
        return [as_answer(r, decode, text, w) for r, text, w in zip(requests, told, writers, strict=True)]
    for request in requests:
        request.done.result(max(0.0, deadline - time.monotonic()))
        _check_it_ended(request)
    return [as_answer(request, decode, whole(decode, request.answer)) for request in requests]


def written(request: Request, writer: Writer, deadline: float) -> Iterator[str]:
    """A followed request's text in pieces, some of them empty, at least one. Raises as `answered` does."""
    assert request.tokens is not None  # noqa: S101
    while True:
        try:
            token = request.tokens.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise Late from None
        if token is None:
            break
        yield writer.add(token)
        if writer.stopped:
            request.abandoned = True  # its row is free with the next token
            return
    _check_it_ended(request)
    yield writer.end()


def held_back(pieces: Iterable[str], look: Callable[[str], None], window: float) -> Iterator[str]:
    """The pieces of an answer once somebody has looked at them: `look` gets all of the text so far, after every
    `window` characters and at the end, and raises Filtered when it may not go on.

    What goes out was looked at together with the `window` characters behind it, so nothing of up to so many is told
    by halves.
    """
    text, sent, seen = "", 0, 0
    for piece in pieces:
        text += piece
        if len(text) - seen >= window:
            look(text)
            seen, free = len(text), len(text) - int(window)
            if free > sent:
                yield text[sent:free]
                sent = free
    look(text)
    yield text[sent:]


def streamed(
    pieces: Iterable[str],
    request: Request,
    writer: Writer,
    heading: Heading,
    *,
    usage: bool,
    done: Callable[[Answer, Any], None],
) -> Iterator[bytes]:
    """The events of a stream; before the last one, `done` hears of the finished answer and of what was found in it."""
    text, told = "", 0
    asked = request.sampling.logprobs
    try:
        yield replies.opening(heading)
        for piece in pieces:
            if not piece:
                continue
            text += piece
            known = len(writer.ids)
            yield replies.chunk(heading, piece, _logprobs(request, writer.decode, told, known) if asked else None)
            told = known
        answer = as_answer(request, writer.decode, text, writer)
        done(answer, None)
        rest = _logprobs(request, writer.decode, told, len(writer.ids)) if asked else None
        yield replies.chunk(heading, None, rest or None, answer.finish_reason)
        if usage:
            yield replies.usage(heading, answer)
        yield replies.DONE
    except Gone:
        return
    except Filtered as filtered:
        request.abandoned = True
        answer = replace(as_answer(request, writer.decode, ""), finish_reason=CONTENT_FILTER, logprobs=None)
        done(answer, filtered.what)
        yield replies.chunk(heading, None, None, CONTENT_FILTER)
        if usage:
            yield replies.usage(heading, answer)
        yield replies.DONE
    except Undecided as error:
        log.warning("%s", error)
        yield replies.failure(problem(503, UNDECIDED))
    except Late:
        yield replies.failure(problem(504, TOO_LATE))
    except Exception:
        log.exception("a request failed in the middle of its answer")
        yield replies.failure(problem(500, FAILED))


def as_answer(request: Request, decode: Decode, text: str, writer: Writer | None = None) -> Answer:
    tokens = len(writer.ids if writer else request.answer)
    reason = "stop" if writer and writer.stopped else request.finish_reason
    logprobs = _logprobs(request, decode, 0, tokens) if request.sampling.logprobs else None
    return Answer(text, reason, len(request.prompt), tokens, logprobs)


def problem(status: int, sentence: str, field: str = "") -> dict[str, Any]:
    """OpenAI's error object."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"code": status, "message": sentence, "type": kind, "param": field or None}


def _check_it_ended(request: Request) -> None:
    request.done.result(0)
    if request.finish_reason == "cancelled":
        raise Gone


def _logprobs(request: Request, decode: Decode, start: int, end: int) -> list[tuple[str, float]]:
    pairs = zip(request.answer[start:end], request.logprobs[start:end], strict=False)
    return [(decode([token]), value) for token, value in pairs]
