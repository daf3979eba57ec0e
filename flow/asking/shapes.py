"""One conversation in each of the request shapes that endpoints for these models have, and the text in their replies.

For whoever moves between an endpoint of the samples and ours (ENDPOINT_SHAPE): `SHAPES["foundry"].request(messages,
parameters)` is the body to post, `.text(reply)` what was answered. All but OpenAI's style know no log-probabilities and
no streams.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Messages = list[dict[str, str]]
Parameters = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    request: Callable[[Messages, Parameters], dict[str, Any]]
    text: Callable[[Any], str]  # raises KeyError, IndexError or TypeError for a reply of another shape


def _only_text(messages: Messages) -> str:
    """The code-first sample's endpoint takes one text. ValueError for a conversation, which it would not understand."""
    if [message["role"] for message in messages] != ["user"]:
        raise ValueError("The code-first shape carries one message of the user, without system prompt or history.")
    return messages[0]["content"]


def _new_tokens(parameters: Parameters) -> Parameters:
    """transformers' name for what OpenAI calls max_tokens; and that a temperature of 0 is none, in its words too."""
    greedy = {"do_sample": False} if parameters.get("temperature") == 0 else {}
    return {{"max_tokens": "max_new_tokens"}.get(name, name): value for name, value in parameters.items()} | greedy


def _of_azures_own(reply: Any) -> Any:
    """Azure's servers for a chat model in MLflow's form say {"output": …}, [text] or [{"0": text}]."""
    if isinstance(reply, dict):
        return reply["output"]
    return next(iter(reply[0].values()), None) if isinstance(reply[0], dict) else reply[0]


SHAPES: dict[str, Shape] = {
    "openai": Shape(lambda m, p: {"messages": m, **p}, lambda r: r["choices"][0]["message"]["content"]),
    "code-first": Shape(lambda m, p: {"input_data": [_only_text(m)], "params": _new_tokens(p)}, lambda r: r[0]),
    "foundry": Shape(lambda m, p: {"input_data": {"input_string": m, "parameters": _new_tokens(p)}}, _of_azures_own),
    "ml-sdk": Shape(
        lambda m, p: {"input_data": {"input_string": [m], "parameters": _new_tokens(p)}, "params": {}}, lambda r: r[0]
    ),
}
