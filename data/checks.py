"""What must be true of chats before anything is paid for. Each check has a code, a severity, a count and examples.

Checks of one row are in `rowchecks`; here are those that need all rows, and what comes of both. A check that found
nothing is reported with count 0, proof that it ran; one that did not run has no count and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from data.chunks import of_rows
from data.clusters import components, first_with_same, near_pairs
from data.corpus import HELD_OUT, Corpus, Examined, Told, examined
from data.errors import DataError
from data.examine import EXAMPLES, Work
from data.gate import Gate
from data.privacy import masked
from data.rows import Row, normalised
from data.rules import CODES, Rules, Severity, load_rules
from data.similarity import Array
from data.spill import spill
from data.tokens import Encoding

__all__ = ["CODES", "Check", "Corpus", "check_rows", "judged", "normalised", "run_checks", "stop_on_errors"]


class Check(BaseModel):
    """The result of one check over all rows; `examples` name file, row and id. No count: it did not run."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    code: str
    severity: Severity
    count: int | None = Field(ge=0)
    message: str
    examples: list[str]


@dataclass(frozen=True)
class Groups:
    """Which rows are one (`label`: the first row of each one's component), and who says nearly what another says."""

    label: Array
    near_left: Array
    near_right: Array


def grouped(done: Examined, rules: Rules) -> Groups:
    """Joined by cluster, messages or prompt, and by nearly the same text."""
    label = np.arange(done.rows)
    for name in ("cluster", "content", "asked"):
        label = components(done.rows, np.arange(done.rows), first_with_same(done.columns.column(name)), label)
    left, right = near_pairs(done.columns, label, rules.near_duplicate)
    return Groups(components(done.rows, left, right, label), left, right)


Finding = tuple[int, Iterable[str]]


def _repeated(name: str) -> Callable[[Examined, Rules, Groups], Finding]:
    def find(done: Examined, _: Rules, __: Groups) -> Finding:
        keys = done.columns.column(name)
        firsts = np.concatenate(
            [first_with_same(keys[a:b]) + a for a, b in zip(done.offsets, done.offsets[1:], strict=False)]
        )
        return _rows(done, np.flatnonzero(firsts != np.arange(done.rows)))

    return find


def _near(done: Examined, _: Rules, groups: Groups) -> Finding:
    which = done.which()
    left, right = groups.near_left, groups.near_right
    return _rows(done, np.unique(np.maximum(left, right)[which[left] == which[right]]))


def _across(done: Examined, _: Rules, groups: Groups) -> Finding:
    which, ours = done.which(), np.array([corpus.split != HELD_OUT for corpus in done.corpora])
    pairs = [(groups.near_left, groups.near_right)]
    trained = np.flatnonzero(ours[which])
    for name in ("content", "cluster"):
        pairs.append((trained, trained[first_with_same(done.columns.column(name)[trained])]))
    found = [
        np.maximum(left, right)[(which[left] != which[right]) & ours[which[left]] & ours[which[right]]]
        for left, right in pairs
    ]
    return _rows(done, np.unique(np.concatenate(found)))


def _language(done: Examined, _: Rules, __: Groups) -> Finding:
    numbers = done.columns.column("language")
    known = np.bincount(numbers[numbers > 0], minlength=2)
    main = int(known.argmax())
    names = {number: name for name, number in done.languages.items()}
    rows = np.flatnonzero((numbers > 0) & (numbers != main))
    count, shown = _rows(done, rows)
    spoken = (names[int(numbers[row])] for row in rows)
    return count, [f"{text}: {name}, most are {names[main]}" for text, name in zip(shown, spoken, strict=False)]


def _balance(done: Examined, rules: Rules, _: Groups) -> Finding:
    rare = [
        f"{masked(key)} = {masked(value)}: {count} of {values.total()} rows"
        for key, values in sorted(done.slices.items())
        for value, count in sorted(values.items())
        if count < rules.rare_share * values.total()
    ]
    return len(rare), rare


def _rows(done: Examined, indices: Array) -> Finding:
    return len(indices), [done.shown(int(index)) for index in indices[:EXAMPLES]]


ACROSS_ROWS: dict[str, Callable[[Examined, Rules, Groups], Finding]] = {
    "duplicate_id": _repeated("id"),
    "duplicate": _repeated("content"),
    "near_duplicate": _near,
    "across_splits": _across,
    "language": _language,
    "balance": _balance,
}


def judged(done: Examined, rules: Rules, groups: Groups) -> list[Check]:
    """Every check, in the order of `rules.CODES`."""
    splits = {corpus.split for corpus in done.corpora}
    idle = {code: "there is no held-out file" for code in ("leakage", "shared_cluster") if HELD_OUT not in splits}
    if len(splits - {HELD_OUT}) < 2:
        idle["across_splits"] = "there is one split, and it is divided by cluster"
    if not rules.answer_keys:
        idle |= dict.fromkeys(("answer_json", "answer_keys"), "answers are free text")
    if not done.slices:
        idle["balance"] = "no row has slices"
    results = []
    for code, message in CODES.items():
        severity = rules.severities[code]
        why = "it is switched off in the rules" if severity == "off" else idle.get(code)
        if why:
            results.append(Check(code=code, severity="off", count=None, message=f"not run: {why}", examples=[]))
            continue
        told = Told()
        if code in ACROSS_ROWS:
            told.add(*ACROSS_ROWS[code](done, rules, groups))
        told = done.found.get(code, told) if code not in ACROSS_ROWS else told
        results.append(Check(code=code, severity=severity, count=told.count, message=message, examples=told.examples))
    return results


def run_checks(
    corpora: Sequence[Corpus], rules: Rules, encoding: Encoding | None = None, workers: int | None = None
) -> list[Check]:
    """Every check over every corpus, in constant memory."""
    with spill() as columns:
        done = examined(corpora, Work(rules, encoding or Encoding(), Gate()), columns, workers)
        return judged(done, rules, grouped(done, rules))


def check_rows(name: str, rows: Sequence[Row], held_out: Sequence[Row] = (), rules: Rules | None = None) -> list[Check]:
    """The same for rows that are in memory."""
    corpora = [Corpus(name, of_rows(rows))]
    if held_out:
        corpora.append(Corpus("held-out", of_rows(held_out), HELD_OUT))
    return run_checks(corpora, rules or load_rules())


def stop_on_errors(checks: Sequence[Check]) -> None:
    """Raises DataError naming every broken check with its first example, when one of severity error found a row."""
    broken = [check for check in checks if check.severity == "error" and check.count]
    if broken:
        each = "; ".join(f"{c.code}: {c.count} row(s), e.g. {c.examples[0]} {c.message}" for c in broken)
        raise DataError(f"The data breaks {len(broken)} check(s): {each}. Mend or remove these rows.")
