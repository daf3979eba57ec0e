"""The one shape that everything becomes, and what other modules read off it: messages, prompts, digests.

A row is `{"id", "cluster_id", "messages": [{"role", "content"}, …], "slices"}`. Ids and clusters that a source lacks
are made from the row's content, so they are the same on every machine and day.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Messages = Sequence[Mapping[str, str]]
ROLES = ("system", "user", "assistant")
MADE = "r-"  # begins ids that were made here
_WORDS = re.compile(r"\w+")


def messages_of(row: Row) -> list[dict[str, str]] | None:
    """The row's messages, or None when they are not even a list of role and text."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return None
    whole = all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    )
    return messages if whole else None


def content_key(messages: Any) -> str:
    """32 hexadecimal digits that two rows share exactly when their messages are equal."""
    try:
        text = "".join(f"{len(m['content'])}:{m['role']}:{m['content']}" for m in messages)
    except (TypeError, KeyError, AttributeError):  # no chat
        text = json.dumps(messages, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def normalised(text: str) -> str:
    """Text without what does not change its meaning here: case, spacing, punctuation, form of the characters."""
    return " ".join(_WORDS.findall((text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold()))


def prompts(messages: Messages) -> Iterator[tuple[str, ...]]:
    """What the customer had said before each of the assistant's turns: each of them is a prompt that is trained on."""
    said: list[str] = []
    for message in messages:
        if message["role"] == "user":
            said.append(normalised(message["content"]))
        elif message["role"] == "assistant":
            yield tuple(said)


def compact(row: Row) -> str:
    """The row as one line of JSONL, keys in the row's own order."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"
