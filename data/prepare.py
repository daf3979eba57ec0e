"""From raw rows to a data set that may be trained on: checked, split, digested, and there as a whole or not at all.

Rows stream: they are converted and checked piece by piece on all cores, and copied to their file once it is known which
rows are one. What is held of a row meanwhile is a few numbers, on disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from data.checks import grouped, judged, stop_on_errors
from data.corpus import HELD_OUT, Corpus, Examined, Split, examined
from data.errors import DataError
from data.examine import Work
from data.load import write_text
from data.manifest import ENCODED_FORMAT, DataFile, Dataset, Encoded, digest_of, encoding_of, file_sha256, version_of
from data.rules import Rules, load_rules
from data.similarity import Array
from data.sources import File, Sources, chunks, load_sources, named
from data.spill import spill
from data.split import HELD_OUT_SHARE, VALIDATION_SHARE, draws_of, places
from data.tokens import Encoding

RECORD = "dataset.json"
# What a training job mounts is a folder of its own, so that the gate's prompts never travel with it.
PATHS: dict[Split, str] = {
    "train": "training/train.jsonl",
    "validation": "training/validation.jsonl",
    "heldout": "heldout.jsonl",
}
ENCODED: dict[Split, str] = {"train": "training/train.arrow", "validation": "training/validation.arrow"}
# What a training job refuses in a row. A set of checks that lets one pass leaves it to the job to say so.
NEEDED = {"json", "utf8", "schema", "roles", "last_turn", "blank"}


def prepare(
    source: Path | Sources,
    held_out: Path | None,
    out_dir: Path,
    name: str,
    *,
    rules: Rules | None = None,
    tokenizer: Path | None = None,
    template: Path | None = None,
    workers: int | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Dataset:
    """Checks `source` against itself and `held_out`, splits it by cluster, and writes `out_dir` with `dataset.json`.

    `training/train.jsonl` and `training/validation.jsonl` are what a job reads; `heldout.jsonl` is the gate's copy.
    A validation split that the sources do not name is a tenth of train; so are held-out prompts that nobody gives.
    With the folder of a `tokenizer` token counts are exact and each of the two has its ids and labels beside it
    (`tokenfile`); else counts are approximate, and the record says so. Raises DataError for a file that cannot be read,
    a broken check, a split without rows, and an `out_dir` that holds something else; it is then as it was before.
    """
    if out_dir.exists() and not (out_dir / RECORD).is_file() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise DataError(f"{out_dir} exists and is no prepared data set; remove it or choose another folder.")
    sources = load_sources(source) if isinstance(source, Path) else source
    rules = rules or load_rules(sources.rules)
    encoding = Encoding(tokenizer, template)
    digests = encoding.digests()
    beside = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.part")
    try:
        with spill(beside) as columns:
            corpora = corpora_of(sources, held_out)
            tokens = columns.folder if encoding.exact else None
            done = examined(corpora, Work(rules, encoding, tokens=tokens), columns, workers, columns.folder)
            groups = grouped(done, rules)
            checks = judged(done, rules, groups)
            stop_on_errors(checks)
            placed = _placed(done, groups.label)
            files = _write(beside, done, placed)
            if tokens and {check.code for check in checks if check.count == 0} >= NEEDED:
                made_with = {"format": ENCODED_FORMAT, "tokenizer": digests[0] or "", "template": digests[1] or ""}
                files = _with_tokens(beside, done, placed, files, made_with)
        digest = digest_of(files)
        dataset = Dataset(
            name=name,
            version=version_of(digest, encoding_of(files, *digests)),
            digest=digest,
            created_at=now(),
            token_count="exact" if encoding.exact else "approximate",
            tokenizer=digests[0],
            template=digests[1],
            files=files,
            checks=checks,
        )
        write_text(beside / RECORD, dataset.model_dump_json(indent=1) + "\n")
        _swap(beside, out_dir)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return dataset


def corpora_of(sources: Sources, held_out: Path | None = None) -> list[Corpus]:
    """The sources by split; a held-out file that is given takes the place of the one that the sources name."""
    given = File(file=held_out) if held_out else sources.heldout
    by_split: dict[Split, Any] = {"train": sources.train, "validation": sources.validation, HELD_OUT: given}
    return [Corpus(named(each), chunks(each), split) for split, each in by_split.items() if each is not None]


def _placed(done: Examined, label: Array) -> Array:
    """For each row the number of its file in PATHS: 0 train, 1 validation, 2 held out."""
    splits = [corpus.split for corpus in done.corpora]
    placed = np.array([list(PATHS).index(split) for split in splits], np.int8)[done.which()]
    validation = 0.0 if "validation" in splits else VALIDATION_SHARE
    held_out = 0.0 if HELD_OUT in splits else HELD_OUT_SHARE
    train = placed == 0
    draws = draws_of(np.unique(label[train], return_inverse=True)[1], done.columns.column("draw")[train])
    placed[train] = places(draws, validation, held_out)
    rows, clusters = int(train.sum()), len(np.unique(draws))
    for number, none in enumerate(("nothing to train on", "no validation", "nothing held out")):
        if not (placed == number).any():
            raise DataError(
                f"{rows} rows in {clusters} clusters leave {none}; give more rows with more distinct cluster_id."
            )
    return placed


def _write(folder: Path, done: Examined, placed: Array) -> dict[Split, DataFile]:
    """The converted rows, each in its file, in the order of the source."""
    (folder / PATHS["train"]).parent.mkdir(parents=True, exist_ok=True)
    outputs = [(folder / path).open("wb", buffering=1 << 20) for path in PATHS.values()]
    digests = [hashlib.sha256() for _ in outputs]
    try:
        at = 0
        for lines in _parts(done):
            where = placed[at : at + len(lines)]
            at += len(lines)
            for number, (output, digest) in enumerate(zip(outputs, digests, strict=True)):
                if text := b"".join(line for line, place in zip(lines, where, strict=True) if place == number):
                    output.write(text)
                    digest.update(text)
    except OSError as error:
        raise DataError(f"{folder} could not be written ({error.strerror}); check free space.") from error
    finally:
        for output in outputs:
            output.close()
    tokens, loss = done.columns.column("tokens"), done.columns.column("loss_tokens")
    return {
        split: DataFile(
            path=path,
            sha256=digests[number].hexdigest(),
            rows=int((placed == number).sum()),
            tokens=int(tokens[placed == number].sum()),
            loss_tokens=int(loss[placed == number].sum()),
        )
        for number, (split, path) in enumerate(PATHS.items())
    }


def _parts(done: Examined) -> Iterator[list[bytes]]:
    """The converted rows, piece by piece; each goes from the disk once it is read."""
    for part in done.parts:
        lines = part.read_bytes().splitlines(keepends=True)
        part.unlink()
        yield lines


def _with_tokens(
    folder: Path, done: Examined, placed: Array, files: dict[Split, DataFile], made_with: Mapping[str, str]
) -> dict[Split, DataFile]:
    """Writes the token files, each naming the JSONL it is of and what it was made with."""
    from data.tokenfile import distribute, part_of  # Arrow, which plain checks do without

    wanted = {
        list(PATHS).index(split): (folder / path, {"jsonl": files[split].sha256, **made_with})
        for split, path in ENCODED.items()
    }
    try:
        distribute(map(part_of, done.parts), placed, wanted)
    except OSError as error:
        raise DataError(f"{folder} could not be written ({error.strerror}); check free space.") from error
    encoded = {split: Encoded(path=path, sha256=file_sha256(folder / path)) for split, path in ENCODED.items()}
    return {split: file.model_copy(update={"encoded": encoded.get(split)}) for split, file in files.items()}


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
