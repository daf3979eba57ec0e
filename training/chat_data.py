"""From JSONL chats to token ids and labels, with loss on what the assistant wrote and nowhere else.

The marks come from the chat template's `{% generation %}` blocks: the assistant's words and its end-of-turn token are
labels, everything else is −100. Chats are never cut: one that is too long is an error or left out, as the recipe says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from training.errors import TrainingError

IGNORED = -100
ROLES = ("system", "user", "assistant")
Messages = list[dict[str, str]]
Example = dict[str, list[int]]


class Lazy(Sequence[Example]):
    """Rows that are made when they are asked for, of which only the lengths are held."""

    def __init__(self, lengths: Sequence[int], make: Callable[[int], Example]) -> None:
        self.lengths, self._make = lengths, make

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        at = range(len(self.lengths))[index]
        return self._make(at) if isinstance(at, int) else [self._make(each) for each in at]


def lengths_of(rows: Sequence[Example]) -> Sequence[int]:
    """Tokens of each row."""
    return rows.lengths if isinstance(rows, Lazy) else [len(row["input_ids"]) for row in rows]


def select(rows: Sequence[Example], chosen: Sequence[int]) -> Lazy:
    """Some of the rows, in the order of `chosen`."""
    lengths = lengths_of(rows)
    return Lazy([lengths[at] for at in chosen], lambda at: rows[chosen[at]])


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
        chats.append(parse_chat(path, number, line))
    if not chats:
        raise TrainingError(f"{path} holds no chats; there is nothing to train on.")
    return chats


def parse_chat(path: Path, number: int, line: str) -> Messages:
    """One line of JSONL. Raises TrainingError naming it."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise TrainingError(f"{path} line {number} is not valid JSON ({error.msg}); run the data checks.") from None
    if problem := _problem(row):
        raise TrainingError(f"{path} line {number} {problem}; run the data checks.")
    return [{"role": m["role"], "content": m["content"]} for m in row["messages"]]


def encode_chat(messages: Messages, tokenizer: Any) -> Example:
    """`input_ids` and `labels` of one chat, both of its full length; labels are −100 outside the assistant's turns."""
    encoded = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = encoded["input_ids"], encoded["assistant_masks"]
    labels = [token if chosen else IGNORED for token, chosen in zip(ids, mask, strict=True)]
    return {"input_ids": list(ids), "labels": labels}


def load_examples(path: Path, tokenizer: Any, max_length: int, over_length: str) -> Sequence[Example]:
    """All chats of `path` as examples, encoded here; raises what `fitting` does."""
    examples = [encode_chat(chat, tokenizer) for chat in read_chats(path)]
    labels = [sum(label != IGNORED for label in example["labels"]) for example in examples]
    return fitting(path, examples, labels, max_length, over_length)


def fitting(
    path: Path, rows: Sequence[Example], labels: Sequence[int], max_length: int, over_length: str
) -> Sequence[Example]:
    """The rows of at most `max_length` tokens. Raises TrainingError when one is too long ("error"), none fits ("drop"),
    or one of these has no token to learn from.
    """
    lengths = lengths_of(rows)
    kept = [at for at, length in enumerate(lengths) if length <= max_length]
    if over := len(rows) - len(kept):
        longest = max(lengths)
        if over_length == "error" or not kept:
            raise TrainingError(
                f"{over} of {len(rows)} chats in {path} are longer than data.max_length {max_length} tokens "
                f"(the longest has {longest}); raise data.max_length, shorten them or set data.over_length to drop."
            )
        print(f"{path.name}: left out {over} of {len(rows)} chats longer than {max_length} tokens", flush=True)
    if silent := sum(not labels[at] for at in kept):
        raise TrainingError(
            f"{silent} of {len(kept)} chats in {path} have no token to learn from; "
            "the chat template marks nothing of the assistant's turns."
        )
    return select(rows, kept) if over else rows
