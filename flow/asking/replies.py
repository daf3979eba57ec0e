"""Reads a reply in OpenAI's format: whole, or the chunks of a stream."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .result import Result
from .shapes import SHAPES
from .statuses import FILTERED

BLOCKED = "the endpoint's content filter refused the answer"
LONGEST_LINE = 4_000_000  # bytes of one event; more is no stream of text


def read(text: str, headers: Mapping[str, str], took: float, shape: str = "openai") -> Result:
    """The result of a whole reply with status 200. `took`: milliseconds."""
    if shape != "openai":
        return _read_shape(text, headers, took, shape)
    try:
        data = json.loads(text)
        choice, usage = data["choices"][0], data.get("usage") or {}
        answer, reason = choice["message"]["content"], choice.get("finish_reason") or ""
        tokens = int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))
        if reason == FILTERED:
            return Result("", "blocked", took, tokens, detail=BLOCKED, finish_reason=reason, **who(headers, data))
        if not isinstance(answer, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        detail = "the model's reply has no choices[0].message.content"
        return Result("", "model_error", took, detail=detail, **who(headers, {}))
    told = logprobs(choice)
    return Result(written(answer), "ok", took, tokens, told, finish_reason=str(reason), **who(headers, data))


def _read_shape(text: str, headers: Mapping[str, str], took: float, shape: str) -> Result:
    """A reply in the shape of a sample: the text alone, and what our own server says in headers."""
    try:
        answer = SHAPES[shape].text(json.loads(text))
        if not isinstance(answer, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        detail = f"the model's reply has not the shape {shape}"
        return Result("", "model_error", took, detail=detail, **who(headers, {}))
    counts = [headers.get(name, "") for name in ("x-prompt-tokens", "x-completion-tokens")]
    tokens = sum(int(count) for count in counts if count.isdigit())
    return Result(written(answer), "ok", took, tokens, **who(headers, {}))


def who(headers: Mapping[str, str], data: Mapping[str, Any]) -> dict[str, Any]:
    """Who answered, by the reply's headers, else its body."""
    model = headers.get("x-model") or data.get("model")
    return {
        "deployment": headers.get("azureml-model-deployment", ""),
        "model": model if isinstance(model, str) else "",
        "answer_id": headers.get("x-answer-id", ""),
    }


def written(text: str) -> str:
    """Half a character pair can be written nowhere."""
    return text.encode("utf-8", "replace").decode()


def logprobs(choice: Mapping[str, Any]) -> str:
    """What OpenAI's format has of them, when `decoding` asks for `logprobs` and the endpoint knows them; else ""."""
    try:
        told = [float(token["logprob"]) for token in choice["logprobs"]["content"]]
        return json.dumps(told) if told else ""  # an answer without a token has none
    except (KeyError, TypeError, ValueError):
        return ""


@dataclass
class Told:
    """What the chunks of a stream have said so far."""

    finish_reason: str = ""
    tokens: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    logprobs: list[float] = field(default_factory=list)
    error: dict[str, Any] | None = None

    def take(self, chunk: Any) -> str:
        """The text of a chunk, "" where it has none. Raises ValueError for one that is no chunk."""
        if not isinstance(chunk, dict):
            raise ValueError("no object")
        if isinstance(chunk.get("error"), dict):
            self.error = chunk["error"]
            return ""
        self.model = {"model": chunk.get("model")} if chunk.get("model") else self.model
        try:
            if usage := chunk.get("usage"):
                self.tokens = int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))
            if not chunk.get("choices"):
                return ""
            choice = chunk["choices"][0]
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self.logprobs += json.loads(logprobs(choice) or "[]")
            text = (choice.get("delta") or {}).get("content") or ""
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError("no chunk") from error
        if not isinstance(text, str):
            raise ValueError("no text")
        return text


def events(chunks: Iterator[bytes]) -> Iterator[str]:
    """The `data:` of each server-sent event, as it comes. Lines end at a line feed and nowhere else: a text may hold
    what Unicode calls a line end. Raises ValueError for bytes that are no such stream."""
    waiting = b""
    for chunk in chunks:
        *lines, waiting = (waiting + chunk).split(b"\n")
        yield from (told for line in lines if (told := _data(line)))
        if len(waiting) > LONGEST_LINE:
            raise ValueError("an event without an end")
    if told := _data(waiting):
        yield told


def _data(line: bytes) -> str:
    return line.removeprefix(b"data:").strip().decode() if line.startswith(b"data:") else ""
