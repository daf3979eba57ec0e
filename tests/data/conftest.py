"""Small, sound chats that the tests of `data` break on purpose."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the library is imported

Row = dict[str, Any]


def story(number: int, words: int = 30) -> str:
    """Words that no other number's story has in this order, so that no two are near duplicates."""
    rng = random.Random(f"story-{number}")
    return " ".join("".join(rng.choices("bcdfgklmnprst", k=1) + rng.choices("aeiou", k=3)) for _ in range(words))


def ticket(number: int, cluster: str | None = None) -> Row:
    """A sound row; rows of different numbers differ in id, cluster, prompt and answer."""
    answer = {"category": "billing", "priority": "low", "product": f"Lumo lamp {number}", "order_id": None}
    return {
        "id": f"t-{number:05d}",
        "cluster_id": cluster or f"c-{number:04d}",
        "messages": [
            {"role": "system", "content": "Triage."},
            {"role": "user", "content": f"I was charged twice for lamp {number}. {story(number)}"},
            {"role": "assistant", "content": json.dumps(answer, separators=(",", ":"))},
        ],
        "slices": {"priority": "low"},
    }


@pytest.fixture
def make_ticket() -> Callable[..., Row]:
    return ticket


@pytest.fixture
def write() -> Callable[[Path, list[Row]], Path]:
    def to(path: Path, rows: list[Row]) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return to
