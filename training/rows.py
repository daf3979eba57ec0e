"""What a run learns from and is judged by: the chats of both splits as tokens, labels and, when packed, rows."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.chat_data import Example, fitting, lengths_of, load_examples, select
from training.digest import file_sha256
from training.packing import packed
from training.recipe import Recipe
from training.tokenfile import Unfit, mapped, tokenizer_digest

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Rows:
    train: Sequence[Example]
    validation: Sequence[Example]
    chats: dict[str, int]  # by split
    digests: dict[str, str]  # SHA-256 of the files they come from
    longest: int  # tokens of the longest chat


def load_rows(recipe: Recipe, tokenizer: Any, base: str, data: Path) -> Rows:
    """Both splits of the folder `data`. Raises TrainingError naming file and line of what is wrong."""
    digests = {split: file_sha256(data / f"{split}.jsonl") for split in SPLITS if (data / f"{split}.jsonl").is_file()}
    examples = {split: _examples(recipe, tokenizer, base, data / f"{split}.jsonl", digests) for split in SPLITS}
    most, validation = recipe.data.max_validation_rows, examples["validation"]
    if most and most < len(validation):
        chosen = random.Random(recipe.run.seed).sample(range(len(validation)), most)  # noqa: S311
        examples["validation"] = select(validation, chosen)
    lengths = {split: lengths_of(rows) for split, rows in examples.items()}
    for split, each in lengths.items():
        print(f"{split}: {len(each)} chats, {sum(each)} tokens", flush=True)
    chats = {split: len(rows) for split, rows in examples.items()}
    longest = max(max(each) for each in lengths.values())
    if recipe.data.packing:
        examples = {split: packed(rows, recipe.data.max_length) for split, rows in examples.items()}
    return Rows(examples["train"], examples["validation"], chats, digests, longest)


def _examples(recipe: Recipe, tokenizer: Any, base: str, path: Path, digests: dict[str, str]) -> Sequence[Example]:
    """The chats of one split: as the data step encoded them where that fits, else encoded here."""
    limits = (recipe.data.max_length, recipe.data.over_length)
    tokens = path.with_suffix(".arrow")
    if path.is_file() and tokens.is_file():
        made_with = {"jsonl": digests[path.stem], "tokenizer": tokenizer_digest(base, recipe.base_model.revision)}
        try:
            rows, labels = mapped(tokens, path, tokenizer, made_with)
        except Unfit as why:
            print(f"{tokens.name} is not used, the chats are encoded here: {why}", flush=True)
        else:
            print(f"{path.name}: encoded before, read from {tokens.name}", flush=True)
            return fitting(path, rows, labels, *limits)
    return load_examples(path, tokenizer, *limits)


def run_digest(recipe: Recipe, rows: Rows, base_digest: str) -> str:
    """The name of everything that determines a run: what its checkpoints belong to."""
    parts = f"{recipe.model_dump_json()} {sorted(rows.digests.items())} {base_digest}"
    return hashlib.sha256(parts.encode()).hexdigest()
