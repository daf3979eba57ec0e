"""Read a folder of records, whatever is there, without ever stopping at one that is missing or broken.

A missing record is a fact about the train (it stopped earlier) and a broken one is told to the reader as a problem;
neither may become a number. A score table with one broken line is left out whole: half a table would be a wrong mean.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from scripts.errors import InvalidInput
from scripts.report import models as m

TABLES = ("stable", "stable-few-shot", "candidate")
"""Names of the score tables in the order in which they are shown; others follow by name."""

R = TypeVar("R", bound=m.Record)


@dataclass(frozen=True)
class ScoreTable:
    name: str
    rows: tuple[m.ScoreRow, ...]
    answers: tuple[m.AnswerRow, ...] = ()
    digest: str | None = None


@dataclass(frozen=True)
class Records:
    """Everything that was found. `problems` holds a sentence for each file that is there and cannot be used."""

    dataset: m.Dataset | None = None
    training: m.Training | None = None
    model: m.Model | None = None
    live: m.Live | None = None
    stable: m.Deployment | None = None
    candidate: m.Deployment | None = None
    verdict: m.Verdict | None = None
    rollout: m.Rollout | None = None
    seconds: tuple[m.StageSeconds, ...] = ()
    scores: tuple[ScoreTable, ...] = ()
    problems: tuple[str, ...] = ()
    broken: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Nothing usable at all."""
        made = (self.dataset, self.training, self.model, self.live, self.stable, self.candidate)
        return not any((*made, self.verdict, self.rollout, self.seconds, self.scores))

    @property
    def rollout_lost(self) -> bool:
        """A rollout ran, or left a record that cannot be used: traffic may have moved and nobody knows where to."""
        ran = any(s.stage == "rollout" for s in self.seconds) or "rollout.json" in self.broken
        return ran and self.rollout is None

    def table(self, name: str) -> ScoreTable | None:
        return next((t for t in self.scores if t.name == name), None)


def load(folder: Path) -> Records:
    """Read every record below `folder`.

    Raises InvalidInput when `folder` is not a folder; anything wrong inside it becomes a sentence in `problems`.
    """
    if not folder.is_dir():
        raise InvalidInput(
            f"there is no folder of records at {folder}: give the folder that holds verdict.json and others"
        )
    problems: list[tuple[str, str]] = []
    one = {
        "dataset": _document(folder / "dataset.json", m.Dataset, problems),
        "training": _document(folder / "training.json", m.Training, problems),
        "model": _document(folder / "model.json", m.Model, problems),
        "live": _document(folder / "live.json", m.Live, problems),
        "stable": _document(folder / "deployment-stable.json", m.Deployment, problems),
        "candidate": _document(folder / "deployment-candidate.json", m.Deployment, problems),
        "verdict": _verdict(folder / "verdict.json", problems),
        "rollout": _document(folder / "rollout.json", m.Rollout, problems),
    }
    return Records(
        **one,  # type: ignore[arg-type]  # each key holds the model its field names
        seconds=_lines(folder / "seconds.jsonl", m.StageSeconds, problems),
        scores=_tables(folder / "scores", problems),
        problems=tuple(sentence for _, sentence in problems),
        broken=frozenset(name for name, _ in problems),
    )


def _tables(folder: Path, problems: list[tuple[str, str]]) -> tuple[ScoreTable, ...]:
    names = {p.name.removesuffix(".jsonl") for p in folder.glob("*.jsonl") if not p.name.endswith(".answers.jsonl")}
    ordered = [n for n in TABLES if n in names] + sorted(names - set(TABLES))
    tables = []
    for name in ordered:
        rows = _lines(folder / f"{name}.jsonl", m.ScoreRow, problems, empty_is_a_problem=True)
        if rows:
            answers = _lines(folder / f"{name}.answers.jsonl", m.AnswerRow, problems)
            tables.append(ScoreTable(name, rows, answers, _scores_digest(folder / f"{name}.jsonl")))
    return tuple(tables)


def _scores_digest(path: Path) -> str | None:
    """The digest by which a verdict names the table that it judged; None for a table that the gate would refuse."""
    from eval.errors import EvalError
    from eval.scores import read_scores, scores_digest

    try:
        return scores_digest(read_scores(path))
    except EvalError:
        return None


def _verdict(path: Path, problems: list[tuple[str, str]]) -> m.Verdict | None:
    """The verdict, unless somebody changed it after it was sealed: a release manager must not read an edited one."""
    from eval.verdict import Verdict

    found = _document(path, m.Verdict, problems)
    if found is None:
        return None
    try:
        intact = Verdict.model_validate_json(path.read_bytes()).intact()
    except ValidationError:
        unsealed = f"{path.name} was written by another version of the gate, so its seal cannot be checked here."
        problems.append((path.name, unsealed))
        return found
    if not intact:
        problems.append((path.name, f"{path.name}: its digest does not fit its content. It is treated as missing."))
        return None
    return found


def _document(path: Path, kind: type[R], problems: list[tuple[str, str]]) -> R | None:
    if not path.exists():
        return None
    try:
        return kind.model_validate(_parse(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        problems.append((path.name, f"{path.name} cannot be used: {_cause(error)}. It is treated as missing."))
        return None


def _lines(
    path: Path, kind: type[R], problems: list[tuple[str, str]], empty_is_a_problem: bool = False
) -> tuple[R, ...]:
    if not path.exists():
        return ()
    rows: list[R] = []
    where = path.name
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            where = f"{path.name}, line {number}"
            if line.strip():
                rows.append(kind.model_validate(_parse(line)))
    except (OSError, ValueError, RecursionError) as error:
        problems.append((path.name, f"{where}: {_cause(error)}. The file is left out."))
        return ()
    if not rows and empty_is_a_problem:
        problems.append((path.name, f"{path.name} is empty. The file is left out."))
    return tuple(rows)


def _parse(text: str) -> Any:
    return _finite(json.loads(text))


def _finite(value: Any) -> Any:
    """NaN and the infinities are not evidence: they become null, which is shown as "not recorded"."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return value


def _cause(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        return f"{where}: {first['msg'].lower()}"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON ({error.msg.lower()} at character {error.pos})"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    return "it is not JSON that can be read"
