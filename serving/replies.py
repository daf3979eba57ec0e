"""What goes back: a reply in the shape of its request, and the events of a streamed one in OpenAI's chunk format."""

import json
import time
from dataclasses import dataclass
from typing import Any

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Answer:
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    logprobs: list[tuple[str, float]] | None = None  # (token, natural logarithm) where they were asked for


@dataclass(frozen=True)
class Heading:
    """What OpenAI's objects begin with."""

    identity: str
    model: str


def openai(answers: list[Answer], heading: Heading) -> Any:
    (answer,) = answers
    message = {"role": "assistant", "content": answer.text}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    if answer.logprobs is not None:
        choice["logprobs"] = _logprobs(answer.logprobs)
    return {**_head("chat.completion", heading), "choices": [choice], "usage": _usage(answer)}


def foundry(answers: list[Answer], _heading: Heading) -> Any:
    return {"output": answers[0].text}


def texts(answers: list[Answer], _heading: Heading) -> Any:
    return [answer.text for answer in answers]


def chunk(
    heading: Heading, text: str | None, logprobs: list[tuple[str, float]] | None = None, finish: str | None = None
) -> bytes:
    """One event. `text` None: nothing new; the first one tells the role too (`opening`)."""
    delta = {} if text is None else {"content": text}
    return _event(heading, delta, logprobs, finish)


def opening(heading: Heading) -> bytes:
    return _event(heading, {"role": "assistant", "content": ""}, None, None)


def usage(heading: Heading, answer: Answer) -> bytes:
    """The last event before [DONE], for who asked with `stream_options`: no choice, only the counts."""
    return _data({**_head("chat.completion.chunk", heading), "choices": [], "usage": _usage(answer)})


def failure(error: dict[str, Any]) -> bytes:
    """What ends a stream instead of [DONE] when no answer can come any more."""
    return _data({"error": error})


def _event(
    heading: Heading, delta: dict[str, str], logprobs: list[tuple[str, float]] | None, finish: str | None
) -> bytes:
    choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
    if logprobs is not None:
        choice["logprobs"] = _logprobs(logprobs)
    return _data({**_head("chat.completion.chunk", heading), "choices": [choice]})


def _data(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _head(kind: str, heading: Heading) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{heading.identity}",
        "object": kind,
        "created": int(time.time()),
        "model": heading.model,
    }


def _usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def _logprobs(told: list[tuple[str, float]]) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": value, "top_logprobs": []} for token, value in told]}
