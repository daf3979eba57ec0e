"""Answers that somebody called bad, as rows for a person to label. A row nobody labelled is never trained on.

A review row has the conversation up to the question under `messages`, what the model said under `model_answer`, and
`label: null`. Who labels it writes the right answer there; the format `review` (formats.py) then makes a chat of it.
Without a label the chat ends with the question, which the check `last_turn` refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.load import read_jsonl, write_jsonl
from data.rows import ROLES


def review_rows(content: Iterable[Mapping[str, Any]], ratings: Mapping[str, str]) -> list[dict[str, Any]]:
    """Of the collected conversations those whose last rating is "down", each once, in their order."""
    rows: dict[str, dict[str, Any]] = {}
    for row in content:
        name = row.get("id")
        if isinstance(name, str) and ratings.get(name) == "down" and name not in rows and _whole(row):
            rows[name] = {
                "id": f"review-{name}",
                "messages": row["messages"],
                "model_answer": row["answer"],
                "model": str(row.get("model", "")),
                "label": None,
            }
    return list(rows.values())


def _whole(row: Mapping[str, Any]) -> bool:
    messages = row.get("messages")
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(m, dict) and m.get("role") in ROLES and isinstance(m.get("content"), str) for m in messages)
        and messages[-1]["role"] == "user"
        and isinstance(row.get("answer"), str)
    )


def add(path: Path, rows: list[dict[str, Any]]) -> int:
    """Put rows that are not in the file yet at its end; how many those were. What is there, labels too, stays.

    Raises DataError for a file that holds something else.
    """
    there = read_jsonl(path) if path.exists() else []
    if strange := next((at for at, row in enumerate(there, 1) if "model_answer" not in row), None):
        raise DataError(f"{path}:{strange} is no review row; choose another --out.")
    known = {row.get("id") for row in there}
    new = [row for row in rows if row["id"] not in known]
    if new:
        write_jsonl(path, [*there, *new])
    return len(new)
