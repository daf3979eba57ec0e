"""Chats of any length in rows of one length: which go together, and how a batch of rows becomes one without padding.

A chat is never cut and never sees its neighbours: positions begin anew with each, and its first token is no label.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

from training.chat_data import IGNORED, Example, Lazy, lengths_of


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of `lengths` in rows of at most `capacity` tokens: longest first, each into the fullest row it fits."""
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room, row), ascending
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        at = bisect_left(free, (lengths[index], -1))
        if at == len(free):
            rows.append([])
            free.append((capacity, len(rows) - 1))
            at = len(free) - 1
        room, row = free.pop(at)
        rows[row].append(index)
        insort(free, (room - lengths[index], row))
    return rows


def packed(examples: Sequence[Example], capacity: int) -> Lazy:
    """The examples as rows of at most `capacity` tokens, with the length of each chat in `seq_lengths`."""
    lengths = lengths_of(examples)
    rows = pack(lengths, capacity)

    def put_together(at: int) -> Example:
        chats = [examples[index] for index in rows[at]]
        return {
            "input_ids": [token for chat in chats for token in chat["input_ids"]],
            "labels": [label for chat in chats for label in chat["labels"]],
            "seq_lengths": [len(chat["input_ids"]) for chat in chats],
        }

    return Lazy([sum(lengths[index] for index in row) for row in rows], put_together)


def flatten_rows(rows: Sequence[Example]) -> dict[str, Any]:
    """A batch as a single row without padding, with what attention must know to keep the chats apart."""
    import torch

    lengths = [n for row in rows for n in row.get("seq_lengths") or [len(row["input_ids"])]]
    starts = torch.tensor([0, *lengths]).cumsum(0)
    labels = torch.tensor([label for row in rows for label in row["labels"]])
    labels[starts[:-1]] = IGNORED
    bounds, longest = starts.to(torch.int32), max(lengths)
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row["input_ids"]]]),
        "labels": labels[None],
        "position_ids": torch.cat([torch.arange(n) for n in lengths])[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }
