"""Makes the messages to send of a user's text, the earlier turns, some examples and a system prompt."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FLOW = Path(__file__).resolve().parents[1]
SYSTEM_PROMPT, FEW_SHOT, DAG = "system_prompt.txt", "few_shot.jsonl", "flow.dag.yaml"
Messages = list[dict[str, str]]


def conversation(
    input_data: str, chat_history: Sequence[Any] = (), few_shot: int = 0, system_prompt: str = SYSTEM_PROMPT
) -> Messages:
    """The messages to send: system prompt (a file of this folder), examples, earlier turns, the user's text.

    Raises ValueError with one sentence.
    """
    if not isinstance(input_data, str) or not input_data.strip():
        raise ValueError("input_data is empty: give the user's text.")
    examples = few_shot_examples()
    if not 0 <= few_shot <= len(examples):
        raise ValueError(f"few_shot is {few_shot}, but few_shot.jsonl has {len(examples)} examples.")
    messages = [{"role": "system", "content": prompt(system_prompt)}]
    for example in examples[:few_shot]:
        messages += example
    for turn in chat_history:
        messages += _turn(turn)
    return [*messages, {"role": "user", "content": input_data}]


def _turn(turn: Any) -> Messages:
    """A message, or prompt flow's own form of a turn."""
    try:
        if "role" in turn:
            pairs = [(turn["role"], turn["content"])]
        else:
            pairs = [("user", turn["inputs"]["input_data"]), ("assistant", turn["outputs"]["answer"])]
        if not all(isinstance(text, str) for pair in pairs for text in pair):
            raise TypeError
    except (KeyError, TypeError):
        raise ValueError("chat_history must hold messages (role, content) or turns (inputs, outputs).") from None
    return [{"role": role, "content": content} for role, content in pairs]


@functools.cache
def prompt(name: str = SYSTEM_PROMPT) -> str:
    """A system prompt by the name of its file. Raises ValueError."""
    known = sorted(path.name for path in FLOW.glob("system_prompt*.txt"))
    if name not in known:
        raise ValueError(f"There is no system prompt {name!r}; there are {', '.join(known)}.")
    return (FLOW / name).read_text(encoding="utf-8").strip()


@functools.cache
def few_shot_examples() -> list[Messages]:
    """Each example's turns without its system message."""
    lines = (FLOW / FEW_SHOT).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line)["messages"] for line in lines if line.strip()]
    return [[message for message in row if message["role"] != "system"] for row in rows]


@dataclass(frozen=True)
class Defaults:
    """What the flow does unless told otherwise."""

    decoding: dict[str, Any]
    answer_schema: dict[str, Any]
    system_prompt: str


@functools.cache
def defaults(flow: Path = FLOW) -> Defaults:
    """From flow.dag.yaml, the only place that says it: with prompt flow and without, the same is done."""
    import yaml

    dag = yaml.safe_load((flow / DAG).read_text(encoding="utf-8"))
    inputs, chosen = dag["inputs"], dag["node_variants"]["build_messages"]
    node = chosen["variants"][chosen["default_variant_id"]]["node"]
    return Defaults(inputs["decoding"]["default"], inputs["answer_schema"]["default"], node["inputs"]["system_prompt"])
