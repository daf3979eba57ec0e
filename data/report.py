"""`data_check.json`: what `data check` found in somebody's files. Nothing is written beside it, nothing uploaded."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from data.checks import Check, grouped, judged
from data.corpus import Split, examined
from data.examine import Work
from data.manifest import Sha256
from data.prepare import corpora_of
from data.privacy import masked
from data.rules import Rules
from data.similarity import Array
from data.sources import Sources
from data.spill import spill
from data.tokens import Encoding


class FileChecked(BaseModel):
    """One source. `longest` and the sums are in tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    split: Split
    rows: int = Field(ge=0)
    tokens: int = Field(ge=0)
    loss_tokens: int = Field(ge=0)
    longest: int = Field(ge=0)


class DataCheck(BaseModel):
    """The record. `languages`: rows by language, "unknown" for those that do not say; `slices`: by key and value."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    passed: bool  # no check of severity error found a row
    token_count: Literal["exact", "approximate"]
    tokenizer: Sha256 | None
    template: Sha256 | None
    files: list[FileChecked]
    languages: dict[str, int]
    slices: dict[str, dict[str, int]]
    checks: list[Check]


def check(sources: Sources, rules: Rules, encoding: Encoding, workers: int | None = None) -> DataCheck:
    """Every check over all sources. Raises DataError for a source that cannot be read at all."""
    digests = encoding.digests()
    with spill() as columns:
        done = examined(corpora_of(sources), Work(rules, encoding), columns, workers)
        checks = judged(done, rules, grouped(done, rules))
        tokens, loss = columns.column("tokens"), columns.column("loss_tokens")
        files = []
        for corpus, first, after in zip(done.corpora, done.offsets, done.offsets[1:], strict=False):
            some = slice(first, after)
            totals = {
                "tokens": int(tokens[some].sum()),
                "loss_tokens": int(loss[some].sum()),
                "longest": int(tokens[some].max(initial=0)),
            }
            files.append(FileChecked(name=corpus.name, split=corpus.split, rows=after - first, **totals))
        spoken = columns.column("language")
    names = {0: "unknown", **{number: name for name, number in done.languages.items()}}
    return DataCheck(
        passed=not any(one.severity == "error" and one.count for one in checks),
        token_count="exact" if encoding.exact else "approximate",
        tokenizer=digests[0],
        template=digests[1],
        files=files,
        languages={names[number]: count for number, count in enumerate(counts(spoken)) if count},
        slices={
            masked(key): {masked(value): count for value, count in sorted(values.items())}
            for key, values in sorted(done.slices.items())
        },
        checks=checks,
    )


def counts(numbers: Array) -> list[int]:
    return [int(count) for count in np.bincount(numbers)] if len(numbers) else []
