"""The four request shapes the endpoint answers, each with its own reply (replies.py); the checks are in checks.py.

| who asks     | request                                                          | reply                          |
| ------------ | ---------------------------------------------------------------- | ------------------------------ |
| OpenAI style | {"messages": [...], "max_tokens": 96, "temperature": 0}          | {"choices": [...], "usage": …} |
| code-first   | {"input_data": [text, ...], "params": {}}                        | [answer, ...]                  |
| Foundry      | {"input_data": {"input_string": [message, ...], "parameters":{}}}| {"output": answer}             |
| ML SDK       | {"input_data": {"input_string": [[message, ...], ...], ...}}     | [answer, ...]                  |
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import replies
from checks import BadRequest, Limits, Messages, conversation, entries, flag, kind, known, mapping, sampling, stops
from decoding import Sampling
from replies import Answer, Heading

MAX_CONVERSATIONS = 64  # in one request: more would keep a connection for minutes
OURS = "release-train"  # the `user` of smoke tests, evaluations and probes: they say nothing about customers
EVERYWHERE = {"max_tokens", "temperature", "top_p", "seed", "do_sample", "stop"}


@dataclass(frozen=True)
class Call:
    conversations: list[Messages]
    sampling: Sampling
    reply: Callable[[list[Answer], Heading], Any]  # → JSON
    field: str  # where the conversations are in the request
    stops: tuple[str, ...] = ()
    stream: bool = False
    usage: bool = False  # a stream ends with the counts
    ours: bool = False  # not to be kept


def parse(body: str, limits: Limits) -> Call:
    """The call in a request body. Raises BadRequest."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}.", "body") from None
    if not isinstance(data, dict) or not ("messages" in data) ^ ("input_data" in data):
        got = f"an object with the keys {_names(data)}" if isinstance(data, dict) else kind(data)
        raise BadRequest(f'The body must be an object with either "messages" or "input_data", not {got}.', "body")
    return _openai(data, limits) if "messages" in data else _documents(data, limits)


def _openai(data: dict[str, Any], limits: Limits) -> Call:
    messages = conversation(data.pop("messages"), "messages", limits)
    options = data.pop("stream_options", None)
    values = known(data, EVERYWHERE | {"logprobs", "stream"})
    stream = bool(flag(values, "stream", False))
    if options is not None and not stream:
        raise BadRequest('"stream_options" goes with "stream": true only.', "stream_options")
    told = mapping(options, "stream_options")
    if extra := set(told) - {"include_usage"}:
        name = f"stream_options.{min(extra)[:60]}"
        raise BadRequest(f'"{name}" is not offered; known is include_usage.', name)
    usage = bool(flag(told, "include_usage", False))
    ours = data.get("user") == OURS
    how = sampling(values, limits)
    return Call([messages], how, replies.openai, "messages", stops(values), stream, usage, ours)


def _documents(data: dict[str, Any], limits: Limits) -> Call:
    if extra := set(data) - {"input_data", "params"}:
        raise BadRequest(f'Beside "input_data" only "params" is known, not {_names(extra)}.', min(extra)[:60])
    given, parameters = data["input_data"], mapping(data.get("params"), "params")
    if isinstance(given, list):
        texts = entries(given, "input_data")
        talks: list[Any] = [[{"role": "user", "content": text}] for text in texts]
        names, reply = [f"input_data[{i}]" for i in range(len(talks))], replies.texts
        for text, name in zip(texts, names, strict=True):
            if not isinstance(text, str):
                raise BadRequest(f'"{name}" must be text, not {kind(text)}.', name)
    else:
        inner, where = mapping(given, "input_data"), "input_data.input_string"
        if "input_string" not in inner or (extra := set(inner) - {"input_string", "parameters"}):
            sentence = '"input_data" must be a list of texts or {"input_string": [...], "parameters": {...}}.'
            raise BadRequest(sentence, "input_data")
        parameters = parameters | mapping(inner.get("parameters"), "input_data.parameters")
        talks = entries(inner["input_string"], where)
        one = isinstance(talks[0], dict)
        talks, reply = ([talks], replies.foundry) if one else (talks, replies.texts)
        names = [where] if one else [f"{where}[{i}]" for i in range(len(talks))]
    if len(talks) > MAX_CONVERSATIONS:
        sentence = f"A request may carry {MAX_CONVERSATIONS} conversations, not {len(talks)}; send them in parts."
        raise BadRequest(sentence, "input_data")
    conversations = [conversation(t, name, limits) for t, name in zip(talks, names, strict=True)]
    values = known(parameters, EVERYWHERE)
    return Call(conversations, sampling(values, limits), reply, "input_data", stops(values))


def _names(keys: Any) -> list[str]:
    return [str(key)[:60] for key in sorted(keys)[:8]]
