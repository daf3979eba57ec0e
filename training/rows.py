"""What a run learns from and is judged by: the chats of both splits as tokens, labels and, when packed, rows."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.chat_data import Example, load_examples
from training.digest import file_sha256
from training.packing import packed
from training.recipe import Recipe

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Rows:
    train: list[Example]
    validation: list[Example]
    chats: dict[str, int]  # by split
    digests: dict[str, str]  # SHA-256 of the files they come from
    longest: int  # tokens of the longest chat


def load_rows(recipe: Recipe, tokenizer: Any, data: Path) -> Rows:
    """Both splits of the folder `data`. Raises TrainingError naming file and line of what is wrong."""
    limits = (recipe.data.max_length, recipe.data.over_length)
    digests = {split: file_sha256(data / f"{split}.jsonl") for split in SPLITS if (data / f"{split}.jsonl").is_file()}
    examples = {split: load_examples(data / f"{split}.jsonl", tokenizer, *limits) for split in SPLITS}
    most, validation = recipe.data.max_validation_rows, examples["validation"]
    if most and most < len(validation):
        examples["validation"] = random.Random(recipe.run.seed).sample(validation, most)  # noqa: S311
    for split, rows in examples.items():
        print(f"{split}: {len(rows)} chats, {sum(len(row['input_ids']) for row in rows)} tokens", flush=True)
    chats = {split: len(rows) for split, rows in examples.items()}
    longest = max(len(row["input_ids"]) for rows in examples.values() for row in rows)
    if recipe.data.packing:
        examples = {split: packed(rows, recipe.data.max_length) for split, rows in examples.items()}
    return Rows(examples["train"], examples["validation"], chats, digests, longest)


def run_digest(recipe: Recipe, rows: Rows, base_digest: str) -> str:
    """The name of everything that determines a run: what its checkpoints belong to."""
    parts = f"{recipe.model_dump_json()} {sorted(rows.digests.items())} {base_digest}"
    return hashlib.sha256(parts.encode()).hexdigest()
