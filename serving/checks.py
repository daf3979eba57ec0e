"""Checks on what a request carries. Each refusal is one sentence with the field's name, which it also has by itself."""

import json
from dataclasses import dataclass
from typing import Any

from decoding import Sampling

Messages = list[dict[str, str]]
ROLES = ("system", "user", "assistant")
MAX_STOPS, LONGEST_STOP = 4, 200  # stop sequences of a request, and characters of one
# What the parameter is called → what it is here.
NAMES = {"max_tokens": "max_tokens", "max_completion_tokens": "max_tokens", "max_new_tokens": "max_tokens"}
NAMES |= {name: name for name in ("temperature", "top_p", "seed", "do_sample", "stop", "stream", "logprobs")}
# Carried by common clients and without effect: the prompt is never echoed, there is one model.
IGNORED = {"model", "user", "return_full_text"}
# Not offered, so only the value that changes nothing may be sent.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "stream": (False,), "logprobs": (False,), "stop": ([],), "top_logprobs": (0,), "top_k": (0, -1),
    "num_beams": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
}  # fmt: skip


class BadRequest(ValueError):
    """The caller's mistake: str() is one sentence, `status` the HTTP status, `field` where it is."""

    def __init__(self, sentence: str, field: str = "", status: int = 400) -> None:
        super().__init__(sentence)
        self.field, self.status = field, status


@dataclass(frozen=True)
class Limits:
    default_tokens: int  # of an answer, when the request does not say
    max_tokens: int  # of an answer, at most
    max_characters: int  # of a conversation: a cheap refusal before anything is tokenized


def mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f'"{where}" must be an object, not {kind(value)}.', where)
    return value


def entries(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise BadRequest(f'"{where}" must be a list with at least one entry.', where)
    return value


def conversation(value: Any, where: str, limits: Limits) -> Messages:
    """Messages of one conversation, which the user's must end."""
    messages: Messages = []
    for i, message in enumerate(entries(value, where)):
        at = f"{where}[{i}]"
        if not isinstance(message, dict):
            raise BadRequest(f'"{at}" must be an object with "role" and "content", not {kind(message)}.', at)
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            field = f"{at}.role"
            raise BadRequest(f'"{field}" must be one of {", ".join(ROLES)}, not {_short(role)}.', field)
        messages.append({"role": role, "content": _text(content, f"{at}.content")})
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        sentence = f'"{where}" must end with a non-empty message of the user, which the model then answers.'
        raise BadRequest(sentence, f"{where}[{len(messages) - 1}]")
    if (size := sum(len(m["content"]) for m in messages)) > limits.max_characters:
        sentence = f'"{where}" has {size} characters; at most {limits.max_characters} are read.'
        raise BadRequest(sentence, where, 413)
    return messages


def _text(content: Any, where: str) -> str:
    if isinstance(content, list):  # OpenAI's list of parts
        parts = [p.get("text") if isinstance(p, dict) and p.get("type") == "text" else None for p in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    if not isinstance(content, str):
        raise BadRequest(f'"{where}" must be text or a list of parts {{"type": "text", "text": …}}.', where)
    return encodable(content, where)


def encodable(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest(f'"{where}" holds half a surrogate pair, which is not text.', where) from None
    return text


def known(parameters: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The parameters that mean something, by what they are called here."""
    values: dict[str, Any] = {}
    for name, value in parameters.items():
        if name in IGNORED or value is None or (name in NEUTRAL and _among(value, NEUTRAL[name])):
            continue
        if NAMES.get(name) not in names:
            offered = ", ".join(each for each, ours in NAMES.items() if ours in names)
            sentence = (
                f'The parameter "{name[:60]}" with the value {_short(value)} is not offered; known are {offered}.'
            )
            raise BadRequest(sentence, name[:60])
        if NAMES[name] in values:
            raise BadRequest(f'"{name}" says again what another parameter said; send one of them.', name)
        values[NAMES[name]] = value
    return values


def sampling(values: dict[str, Any], limits: Limits) -> Sampling:
    tokens = _number(values, "max_tokens", limits.default_tokens, 1, limits.max_tokens, whole=True)
    sample = flag(values, "do_sample", None)
    temperature = _number(values, "temperature", 1.0 if sample else 0.0, 0, 2)
    top_p = _number(values, "top_p", 1.0, 0, 1)
    seed = _number(values, "seed", 0, 0, 2**63 - 1, whole=True) if "seed" in values else None
    return Sampling(
        int(tokens),
        0.0 if sample is False else temperature,
        top_p,
        None if seed is None else int(seed),
        bool(flag(values, "logprobs", False)),
    )


def stops(values: dict[str, Any]) -> tuple[str, ...]:
    """The sequences that end an answer and are not part of it: a text, or a list of up to four."""
    given = values.get("stop", [])
    found = [given] if isinstance(given, str) else given
    right = isinstance(found, list) and len(found) <= MAX_STOPS
    if not right or not all(isinstance(each, str) and 0 < len(each) <= LONGEST_STOP for each in found):
        sentence = f'"stop" must be a text of 1 to {LONGEST_STOP} characters or a list of up to {MAX_STOPS} of them.'
        raise BadRequest(sentence, "stop")
    return tuple(encodable(each, "stop") for each in found)


def flag(values: dict[str, Any], name: str, default: bool | None) -> bool | None:
    value = values.get(name, default)
    if value is not default and not isinstance(value, bool):
        raise BadRequest(f'"{name}" must be true or false, not {_short(value)}.', name)
    return value


def _number(values: dict[str, Any], name: str, default: float, low: float, high: float, whole: bool = False) -> float:
    value = values.get(name, default)
    right_kind = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right_kind or not low <= value <= high:  # NaN fails the comparison too
        what = "a whole number" if whole else "a number"
        raise BadRequest(f'"{name}" must be {what} from {low} to {high}, not {_short(value)}.', name)
    return float(value) if not whole else value


def _among(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Python takes true for 1, JSON does not."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in neutral)


def kind(value: Any) -> str:
    """What JSON calls it."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _short(value: Any) -> str:
    return json.dumps(value)[:60]
