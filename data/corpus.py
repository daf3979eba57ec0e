"""All rows of all files, examined piece by piece: totals, and columns of numbers for the checks across rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from data.chunks import Chunk
from data.errors import DataError
from data.examine import EXAMPLES, Facts, Work, examine
from data.pool import mapped
from data.similarity import Array, band_keys
from data.spill import Spill

Split = Literal["train", "validation", "heldout"]
HELD_OUT: Split = "heldout"
VALUES, OTHERS = 1_000, "(others)"  # of a key of `slices`


@dataclass(frozen=True)
class Corpus:
    """The rows of one source. Those of the split `heldout` are the prompts that no other may hold."""

    name: str
    chunks: Iterable[Chunk]
    split: Split = "train"


@dataclass
class Told:
    """What one check found: how often, and the first few as sentences."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, count: int, examples: Iterable[str]) -> None:
        self.count += count
        self.examples += list(examples)[: EXAMPLES - len(self.examples)]


@dataclass
class Examined:
    """`offsets[i]` is the first row of corpus i in the columns, one more than there are corpora."""

    corpora: list[Corpus]
    columns: Spill
    offsets: list[int] = field(default_factory=lambda: [0])
    found: dict[str, Told] = field(default_factory=dict)
    slices: dict[str, Counter[str]] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    parts: list[Path] = field(default_factory=list)  # the converted rows, in order

    @property
    def rows(self) -> int:
        return self.offsets[-1]

    def which(self) -> Array:
        """For each row the number of its corpus."""
        return np.repeat(np.arange(len(self.corpora)), np.diff(self.offsets))

    def shown(self, index: int) -> str:
        """A row as people find it: file, row, id."""
        at = int(np.searchsorted(self.offsets, index, side="right")) - 1
        name = self.columns.rows("name", np.array([index]))[0].tobytes().decode("utf-8", "ignore").strip()
        return f"{self.corpora[at].name} row {index - self.offsets[at] + 1} ({name})"


def examined(
    corpora: Sequence[Corpus], work: Work, columns: Spill, workers: int | None = None, parts: Path | None = None
) -> Examined:
    """Held-out rows come first, because the others are held against them. Raises DataError for an empty source."""
    ordered = sorted(corpora, key=lambda corpus: corpus.split != HELD_OUT)
    done = Examined(list(ordered), columns)
    for at, corpus in enumerate(ordered):
        held_out = corpus.split == HELD_OUT
        task = replace(work, keep_gate=held_out, parts=parts)
        lines = 0
        for part, fact in mapped(_examine, _named(corpus.chunks, f"{at}-"), task, workers):
            _take(done, corpus, fact, lines)
            lines += fact.rows
            if fact.gate is not None:
                work.gate.asked |= fact.gate.asked
                work.gate.clusters |= fact.gate.clusters
                work.gate.signatures += fact.gate.signatures
            if parts:
                done.parts.append(parts / part)
        if not lines and not any(told.count for code, told in done.found.items() if code in ("json", "utf8")):
            raise DataError(f"{corpus.name} holds no rows; give a file with at least one.")
        done.offsets.append(done.offsets[-1] + lines)
        work.gate.index()
    return done


def _named(chunks: Iterable[Chunk], prefix: str) -> Iterable[tuple[Chunk, str]]:
    return ((chunk, f"{prefix}{number:08d}.jsonl") for number, chunk in enumerate(chunks))


def _examine(piece: tuple[Chunk, str], work: Work) -> tuple[str, Facts]:
    return piece[1], examine(piece[0], work, piece[1])


def _count(total: dict[str, Counter[str]], more: Counter[tuple[str, str]]) -> None:
    """A key whose values never repeat (a date, a number) is no class: what comes after so many counts as one value."""
    for (key, value), count in more.items():
        values = total.setdefault(key, Counter())
        values[value if value in values or len(values) < VALUES else OTHERS] += count


def _take(done: Examined, corpus: Corpus, facts: Facts, before: int) -> None:
    for code, finding in facts.found.items():
        shown = (
            f"{corpus.name} row {before + row + 1} ({name}){': ' + what if what else ''}"
            for row, name, what in finding.examples
        )
        done.found.setdefault(code, Told()).add(finding.count, shown)
    for bad in facts.unreadable:
        done.found.setdefault(bad.code, Told()).add(1, [f"{corpus.name} line {bad.line}: {bad.why}"])
    if corpus.split != HELD_OUT:
        _count(done.slices, facts.slices)
    # Each piece numbers its languages as it meets them.
    numbers = [0, *(done.languages.setdefault(name, len(done.languages) + 1) for name in facts.languages)]
    facts.columns["language"] = np.array(numbers, np.uint8)[facts.columns["language"]]
    for name, values in facts.columns.items():
        done.columns.append(name, values)
    for band, keys in enumerate(band_keys(facts.columns["signature"]).T):
        done.columns.append(f"band-{band}", keys)
