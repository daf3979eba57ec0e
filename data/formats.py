"""From the formats that people have to the one `messages` schema. A format is a function from a record to messages.

A function answers None when a record is not of its format; the row then fails the check `schema`. Nothing is guessed
and no text is changed: what is odd stays odd, for the checks to find.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from data.rows import MADE, Row, content_key

Turns = list[dict[str, Any]]
# ShareGPT files name the speakers in more than one way.
SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
}
# The words that the model meets are Alpaca's own, so that a model trained on it elsewhere finds them again.
ALPACA_INPUT = "{instruction}\n\n{input}"


def _messages(record: Row) -> Turns | None:
    """`messages`: role and content as they are; whatever else a turn carries (`name`, `weight`) is left out."""
    turns = record.get("messages")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return None
    return [{key: turn[key] for key in ("role", "content") if key in turn} for turn in turns]


def _prompt_completion(record: Row) -> Turns | None:
    """`prompt` and `completion`: both text, or both lists of messages (TRL's conversational form)."""
    prompt, completion = record.get("prompt"), record.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    if isinstance(prompt, list) and isinstance(completion, list):
        return _messages({"messages": prompt + completion})
    return None


def _sharegpt(record: Row) -> Turns | None:
    """`conversations` of `from` and `value`; an answer before any question is dropped: its question is lost."""
    said = record.get("conversations", record.get("conversation"))
    if not isinstance(said, list) or not all(isinstance(turn, dict) for turn in said):
        return None
    turns = [{"role": _speaker(turn.get("from")), "content": turn.get("value")} for turn in said]
    first = 1 if turns and turns[0]["role"] == "system" else 0
    if record.get("system") and isinstance(record["system"], str) and not first:
        turns, first = [{"role": "system", "content": record["system"]}, *turns], 1
    while len(turns) > first and turns[first]["role"] == "assistant":
        del turns[first]
    return turns


def _speaker(name: Any) -> Any:
    return SHAREGPT_ROLES.get(name.lower(), name) if isinstance(name, str) else name


def _alpaca(record: Row) -> Turns | None:
    """`instruction`, perhaps `input` (below it), `output`; `system` and `history` where they are given."""
    instruction, given, output = record.get("instruction"), record.get("input") or "", record.get("output")
    if not (isinstance(instruction, str) and isinstance(given, str) and isinstance(output, str)):
        return None
    asked = ALPACA_INPUT.format_map({"instruction": instruction, "input": given}) if given.strip() else instruction
    turns: Turns = []
    if isinstance(record.get("system"), str) and record["system"].strip():
        turns.append({"role": "system", "content": record["system"]})
    for pair in record.get("history") or []:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            return None
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return [*turns, {"role": "user", "content": asked}, {"role": "assistant", "content": output}]


def _review(record: Row) -> Turns | None:
    """`messages`, `model_answer`, `label` (feedback.py): the label is the answer. Without one the question ends it, and
    the check `last_turn` refuses the row; what the model said is never learned from."""
    turns, label = _messages(record), record.get("label")
    if turns is None or not isinstance(label, str) or not label.strip():
        return turns
    return [*turns, {"role": "assistant", "content": label}]


FORMATS: dict[str, Callable[[Row], Turns | None]] = {
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "review": _review,
}
KEYS = {
    "model_answer": "review",
    "messages": "messages",
    "completion": "prompt_completion",
    "conversations": "sharegpt",
    "output": "alpaca",
}


def guess(record: Row) -> str:
    """The format whose key a record has; `messages` when it has none of them, so that `schema` says what is missing."""
    return next((name for key, name in KEYS.items() if key in record), "messages")


def to_row(record: Row, form: str, id_key: str = "id", cluster_key: str = "cluster_id") -> Row:
    """A record as a row. Ids and clusters that are missing are made from the content; wrong ones stay wrong."""
    messages = FORMATS[guess(record) if form == "auto" else form](record)
    missing = id_key not in record or cluster_key not in record
    key = MADE + content_key(messages)[:16] if missing else ""
    row = {"id": record.get(id_key, key), "cluster_id": record.get(cluster_key, key)}
    if messages is not None:
        row["messages"] = messages
    if "slices" in record:
        row["slices"] = record["slices"]
    return row
