"""The four request shapes the endpoint answers, each with its own reply, and the checks on what they carry.

| who asks     | request                                                          | reply                          |
| ------------ | ---------------------------------------------------------------- | ------------------------------ |
| OpenAI style | {"messages": [...], "max_tokens": 96, "temperature": 0}          | {"choices": [...], "usage": …} |
| code-first   | {"input_data": [text, ...], "params": {}}                        | [answer, ...]                  |
| Foundry      | {"input_data": {"input_string": [message, ...], "parameters":{}}}| {"output": answer}             |
| ML SDK       | {"input_data": {"input_string": [[message, ...], ...], ...}}     | [answer, ...]                  |
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from decoding import Sampling

Messages = list[dict[str, str]]
ROLES = ("system", "user", "assistant")
MAX_CONVERSATIONS = 64  # in one request: more would keep a connection for minutes
# What the parameter is called → what it is here.
NAMES = {"max_tokens": "max_tokens", "max_completion_tokens": "max_tokens", "max_new_tokens": "max_tokens"}
NAMES |= {name: name for name in ("temperature", "top_p", "seed", "do_sample")}
# Carried by common clients and without effect: the prompt is never echoed, there is one model.
IGNORED = {"model", "user", "return_full_text"}
OURS = "release-train"  # the `user` of smoke tests, evaluations and probes: they say nothing about customers
# Not offered, so only the value that changes nothing may be sent.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "stream": (False,), "stop": ([],), "logprobs": (False,), "top_logprobs": (0,), "top_k": (0, -1),
    "num_beams": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
}  # fmt: skip


class BadRequest(ValueError):
    """The caller's mistake: str() is one sentence, `status` the HTTP status."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Limits:
    default_tokens: int  # of an answer, when the request does not say
    max_tokens: int  # of an answer, at most
    max_characters: int  # of a conversation: a cheap refusal before anything is tokenized


@dataclass(frozen=True)
class Answer:
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    logprobs: list[tuple[str, float]] | None = None  # (token, natural logarithm) where they were asked for


@dataclass(frozen=True)
class Call:
    conversations: list[Messages]
    sampling: Sampling
    reply: Callable[[list[Answer], str], Any]  # (answers, model's name) → JSON
    ours: bool = False  # not to be kept


def parse(body: str, limits: Limits) -> Call:
    """The call in a request body. Raises BadRequest."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    if not isinstance(data, dict) or not ("messages" in data) ^ ("input_data" in data):
        got = f"an object with the keys {sorted(data)[:8]}" if isinstance(data, dict) else type(data).__name__
        raise BadRequest(f'The body must be an object with either "messages" or "input_data", not {got}.')
    if "messages" in data:
        parameters = {k: v for k, v in data.items() if k != "messages"}
        logprobs = parameters.get("logprobs") is True  # the other replies have no place for them
        if logprobs:
            del parameters["logprobs"]
        sampling = replace(_sampling(parameters, limits), logprobs=logprobs)
        ours = parameters.get("user") == OURS
        return Call([_messages(data["messages"], "messages", limits)], sampling, openai_reply, ours)
    if extra := set(data) - {"input_data", "params"}:
        raise BadRequest(f'Beside "input_data" only "params" is known, not {sorted(extra)}.')
    given, parameters = data["input_data"], _object(data.get("params"), "params")
    if isinstance(given, list):
        texts = _list(given, "input_data")
        talks: list[Any] = [[{"role": "user", "content": text}] for text in texts]
        names, reply = [f"input_data[{i}]" for i in range(len(talks))], list_reply
    else:
        inner = _object(given, "input_data")
        if "input_string" not in inner or (extra := set(inner) - {"input_string", "parameters"}):
            raise BadRequest('"input_data" must be a list of texts or {"input_string": [...], "parameters": {...}}.')
        parameters = parameters | _object(inner.get("parameters"), "input_data.parameters")
        talks, where = _list(inner["input_string"], "input_data.input_string"), "input_data.input_string"
        one = isinstance(talks[0], dict)
        talks, reply = ([talks], foundry_reply) if one else (talks, list_reply)
        names = [where] if one else [f"{where}[{i}]" for i in range(len(talks))]
    if len(talks) > MAX_CONVERSATIONS:
        raise BadRequest(
            f"A request may carry {MAX_CONVERSATIONS} conversations, not {len(talks)}; send them in parts."
        )
    conversations = [_messages(t, name, limits) for t, name in zip(talks, names, strict=True)]
    return Call(conversations, _sampling(parameters, limits), reply)


def openai_reply(answers: list[Answer], model: str) -> Any:
    (answer,) = answers
    message = {"role": "assistant", "content": answer.text}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    if answer.logprobs is not None:
        told = [{"token": token, "logprob": value, "top_logprobs": []} for token, value in answer.logprobs]
        choice["logprobs"] = {"content": told}
    usage = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens}
    return {
        "object": "chat.completion",
        "model": model,
        "choices": [choice],
        "usage": usage | {"total_tokens": answer.prompt_tokens + answer.completion_tokens},
    }


def foundry_reply(answers: list[Answer], _model: str) -> Any:
    return {"output": answers[0].text}


def list_reply(answers: list[Answer], _model: str) -> Any:
    return [answer.text for answer in answers]


def _object(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f'"{where}" must be an object, not {type(value).__name__}.')
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise BadRequest(f'"{where}" must be a list with at least one entry.')
    return value


def _messages(value: Any, where: str, limits: Limits) -> Messages:
    messages: Messages = []
    for i, message in enumerate(_list(value, where)):
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if isinstance(content, list):  # OpenAI's list of parts
            texts = [p.get("text") if isinstance(p, dict) and p.get("type") == "text" else None for p in content]
            content = None if None in texts else "".join(map(str, texts))
        if role not in ROLES or not isinstance(content, str):
            roles = ", ".join(ROLES)
            raise BadRequest(f'"{where}" entry {i} must be {{"role": one of {roles}, "content": text}}.')
        try:
            content.encode()
        except UnicodeEncodeError:
            raise BadRequest(f'"{where}" entry {i} holds half a surrogate pair, which is not text.') from None
        messages.append({"role": role, "content": content})
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise BadRequest(f'"{where}" must end with a non-empty message of the user, which the model then answers.')
    if (size := sum(len(m["content"]) for m in messages)) > limits.max_characters:
        raise BadRequest(f'"{where}" has {size} characters; at most {limits.max_characters} are read.', 413)
    return messages


def _sampling(parameters: dict[str, Any], limits: Limits) -> Sampling:
    values: dict[str, Any] = {}
    for name, value in parameters.items():
        if name in IGNORED or value is None or (name in NEUTRAL and value in NEUTRAL[name]):
            continue
        if name not in NAMES:
            known = ", ".join(NAMES)
            raise BadRequest(
                f'The parameter "{name}" with the value {json.dumps(value)[:60]} is not offered; known are {known}.'
            )
        values[NAMES[name]] = value
    tokens = _number(values, "max_tokens", limits.default_tokens, 1, limits.max_tokens, whole=True)
    sample = values.get("do_sample")
    if sample not in (None, True, False):
        raise BadRequest('"do_sample" must be true or false.')
    temperature = _number(values, "temperature", 1.0 if sample else 0.0, 0, 2)
    top_p = _number(values, "top_p", 1.0, 0, 1)
    seed = _number(values, "seed", 0, 0, 2**63 - 1, whole=True) if "seed" in values else None
    return Sampling(int(tokens), 0.0 if sample is False else temperature, top_p, None if seed is None else int(seed))


def _number(values: dict[str, Any], name: str, default: float, low: float, high: float, whole: bool = False) -> float:
    value = values.get(name, default)
    right_kind = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right_kind or not low <= value <= high:  # NaN fails the comparison too
        kind = "a whole number" if whole else "a number"
        raise BadRequest(f'"{name}" must be {kind} from {low} to {high}, not {json.dumps(value)[:60]}.')
    return float(value) if not whole else value
