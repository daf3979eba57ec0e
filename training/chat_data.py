"""From JSONL chats to token ids and labels, with loss on what the assistant wrote and nowhere else.

The marks come from the chat template's `{% generation %}` blocks: the assistant's words and its end-of-turn token are
labels, everything else is −100. Chats are never cut: one that is too long is an error or left out, as the recipe says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.errors import TrainingError

IGNORED = -100
ROLES = ("system", "user", "assistant")
Messages = list[dict[str, str]]
Example = dict[str, list[int]]


def _problem(row: Any) -> str | None:
    """What is wrong with one parsed row, or None."""
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages:
        return "has no list of messages"
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            return f"has a message whose role is not one of {', '.join(ROLES)}"
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            return "has a message without text"
    return None if messages[-1]["role"] == "assistant" else "does not end with the assistant's answer"


def read_chats(path: Path) -> list[Messages]:
    """The chats of a JSONL file (`messages` format). Raises TrainingError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TrainingError(f"There is no {path}; --data needs train.jsonl and validation.jsonl in it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read ({error}); give readable UTF-8 JSONL.") from None
    chats: list[Messages] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise TrainingError(f"{path} line {number} is not valid JSON ({error.msg}); run the data checks.") from None
        if problem := _problem(row):
            raise TrainingError(f"{path} line {number} {problem}; run the data checks.")
        chats.append([{"role": m["role"], "content": m["content"]} for m in row["messages"]])
    if not chats:
        raise TrainingError(f"{path} holds no chats; there is nothing to train on.")
    return chats


def encode_chat(messages: Messages, tokenizer: Any) -> Example:
    """`input_ids` and `labels` of one chat, both of its full length; labels are −100 outside the assistant's turns."""
    encoded = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = encoded["input_ids"], encoded["assistant_masks"]
    labels = [token if chosen else IGNORED for token, chosen in zip(ids, mask, strict=True)]
    return {"input_ids": list(ids), "labels": labels}


def load_examples(path: Path, tokenizer: Any, max_length: int, over_length: str) -> list[Example]:
    """All chats of `path` as examples. Raises TrainingError when one is too long ("error"), none fits ("drop"),
    or one has no token to learn from.
    """
    examples = [encode_chat(chat, tokenizer) for chat in read_chats(path)]
    longest = max(len(example["input_ids"]) for example in examples)
    fitting = [example for example in examples if len(example["input_ids"]) <= max_length]
    if over := len(examples) - len(fitting):
        if over_length == "error" or not fitting:
            raise TrainingError(
                f"{over} of {len(examples)} chats in {path} are longer than data.max_length {max_length} tokens "
                f"(the longest has {longest}); raise data.max_length, shorten them or set data.over_length to drop."
            )
        print(f"{path.name}: left out {over} of {len(examples)} chats longer than {max_length} tokens", flush=True)
    if silent := sum(all(label == IGNORED for label in example["labels"]) for example in fitting):
        raise TrainingError(
            f"{silent} of {len(fitting)} chats in {path} have no token to learn from; "
            "the chat template marks nothing of the assistant's turns."
        )
    return fitting
