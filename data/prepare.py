"""From raw rows to a data set that may be trained on: checked, split, digested, and there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from data.checks import Corpus, Rules, run_checks, stop_on_errors
from data.errors import DataError
from data.load import Row, read_jsonl, write_jsonl, write_text
from data.manifest import DataFile, Dataset, Split, digest_of, file_sha256, version_of
from data.split import split
from data.tokens import Messages, chat_counter

RECORD = "dataset.json"
# What a training job mounts is a folder of its own, so that the gate's prompts never travel with it.
PATHS: dict[Split, str] = {
    "train": "training/train.jsonl",
    "validation": "training/validation.jsonl",
    "heldout": "heldout.jsonl",
}


def prepare(
    source: Path,
    held_out: Path,
    out_dir: Path,
    name: str,
    *,
    rules: Rules | None = None,
    tokenizer: Path | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Dataset:
    """Checks `source` against itself and `held_out`, splits it by cluster, and writes `out_dir` with `dataset.json`.

    `training/train.jsonl` and `training/validation.jsonl` are what a job reads; `heldout.jsonl` is the gate's copy.
    Token counts are exact with the folder of a `tokenizer`, else approximate; the record says which. Raises DataError
    for a file that cannot be read, a broken check, a split without rows, and an `out_dir` that holds something else;
    `out_dir` is then as it was before.
    """
    if out_dir.exists() and not (out_dir / RECORD).is_file() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise DataError(f"{out_dir} exists and is no prepared data set; remove it or choose another folder.")
    rules = rules or Rules()
    count = chat_counter(tokenizer)
    if tokenizer:
        rules = replace(rules, count_tokens=count)
    rows, gate = read_jsonl(source), read_jsonl(held_out)
    checks = run_checks([Corpus(source.name, rows, gate), Corpus(held_out.name, gate)], rules)
    stop_on_errors(checks)
    train, validation = split(rows)

    beside = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.part")
    try:
        parts: dict[Split, Sequence[Row]] = {"train": train, "validation": validation, "heldout": gate}
        files = {part: _write(beside, PATHS[part], parts[part], count) for part in PATHS}
        digest = digest_of(files)
        dataset = Dataset(
            name=name,
            version=version_of(digest),
            digest=digest,
            created_at=now(),
            token_count="exact" if tokenizer else "approximate",
            files=files,
            checks=checks,
        )
        write_text(beside / RECORD, dataset.model_dump_json(indent=1) + "\n")
        _swap(beside, out_dir)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return dataset


def _write(folder: Path, path: str, rows: Sequence[Row], count: Callable[[Messages], int]) -> DataFile:
    write_jsonl(folder / path, rows)
    tokens = sum(count(row["messages"]) for row in rows)
    return DataFile(path=path, sha256=file_sha256(folder / path), rows=len(rows), tokens=tokens)


def _swap(new: Path, place: Path) -> None:
    """Puts `new` where `place` is; the old folder goes only after the new one is there."""
    old = place.with_name(f".{place.name}.{os.getpid()}.old")
    try:
        if place.exists():
            place.replace(old)
        new.replace(place)
    except OSError as error:
        if old.exists() and not place.exists():
            old.replace(place)
        raise DataError(f"{place} could not be written ({error.strerror}); check the folder and free space.") from error
    shutil.rmtree(old, ignore_errors=True)
