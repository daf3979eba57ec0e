"""How a conversation is put to an endpoint, and where the answer is in its reply, by the name of a tier's `shape`.

`openai` is what our own servers and vLLM take. `foundry` is what Azure's own servers for a chat model in MLflow's form
take. They reply in three ways (docs/tiers.md#azures-own-server says where that was found), so all three are read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    request: Callable[[Body], dict[str, Any]]  # from a body in OpenAI's style
    text: Callable[[Any], Any]  # raises KeyError, IndexError, TypeError or StopIteration for a reply of another shape


def _foundry(body: Body) -> dict[str, Any]:
    parameters = {_NAMES.get(name, name): value for name, value in body.items() if name not in _OPENAI_ALONE}
    if parameters.get("temperature") == 0:
        parameters["do_sample"] = False  # one of the servers samples with a temperature of 0, another drops this word
    return {"input_data": {"input_string": body["messages"], "parameters": parameters}}


def _foundry_text(reply: Any) -> Any:
    if isinstance(reply, dict):
        return reply["output"]
    first = reply[0]
    return next(iter(first.values())) if isinstance(first, dict) else first


_NAMES = {"max_tokens": "max_new_tokens"}  # transformers' name
_OPENAI_ALONE = ("messages", "user")
SHAPES: dict[str, Shape] = {
    "openai": Shape(dict, lambda reply: reply["choices"][0]["message"]["content"]),
    "foundry": Shape(_foundry, _foundry_text),
}
