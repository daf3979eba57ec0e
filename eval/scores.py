"""Score tables: one JSON row per prompt and repeat, the only evidence that the gate sees."""

import hashlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval.atomic import write_atomic
from eval.errors import EvalError, first_problem

Number = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class ScoreRow(BaseModel):
    """One answer's scores. `latency_ms` is wall time in milliseconds, `tokens` counts prompt and answer together.

    `blocked`: a content filter refused the prompt or the answer, so the user got none; it counts as the model's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prompt_id: Text
    repeat: Annotated[int, Field(ge=0)] = 0
    cluster_id: Text
    slices: dict[str, str] = {}
    status: Literal["ok", "blocked", "model_error", "infra_error"]
    metrics: dict[str, Number] = {}
    latency_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None

    @property
    def failed(self) -> bool:
        """No answer, by the model or by what guards it: scores the worst there is. Not: lost on the way."""
        return self.status in ("model_error", "blocked")

    @property
    def key(self) -> tuple[str, int]:
        return self.prompt_id, self.repeat


def read_scores(path: Path, required: Collection[str] = ()) -> list[ScoreRow]:
    """Read a score table, refusing anything that could hide a failure.

    `required` names metrics that each answered row must have; an evaluator may leave others out where they do not
    apply. Raises EvalError naming file and line for broken JSON, NaN or infinity, unknown keys, a missing metric, or a
    repeated row.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise EvalError(f"{path}: the score table cannot be read ({why}); run `python -m eval.run` first.") from error
    rows: list[ScoreRow] = []
    seen: dict[tuple[str, int], int] = {}
    names = set(required)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _parse(line, path, number)
        if row.key in seen:
            raise EvalError(
                f"{path}:{number}: prompt {row.prompt_id} repeat {row.repeat} is already on line {seen[row.key]}."
            )
        seen[row.key] = number
        if row.status == "ok" and (missing := sorted(names - set(row.metrics))):
            has = ", ".join(sorted(row.metrics)) or "none"
            raise EvalError(f"{path}:{number}: metric {', '.join(missing)} is missing (the row has: {has}).")
        rows.append(row)
    if not rows:
        raise EvalError(f"{path}: the score table has no rows; no evidence is never a pass.")
    return rows


def _parse(line: str, path: Path, number: int) -> ScoreRow:
    def refuse(token: str) -> NoReturn:
        raise EvalError(f"{path}:{number}: {token} is not a score; a metric must be a finite number.")

    try:
        # Strict mode takes no string for a number; JSON mode is not used because it would read NaN silently.
        return ScoreRow.model_validate(json.loads(line, parse_constant=refuse))
    except json.JSONDecodeError as error:
        raise EvalError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno}).") from error
    except ValidationError as error:
        raise EvalError(f"{path}:{number}: {first_problem(error)}.") from error


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Write a score table whole or not at all, ordered by prompt and repeat."""
    ordered = sorted(rows, key=lambda row: row.key)
    write_atomic(path, "".join(row.model_dump_json() + "\n" for row in ordered))


def scores_digest(rows: Iterable[ScoreRow]) -> str:
    """SHA-256 of the rows' content, whatever their order."""
    lines = sorted(json.dumps(row.model_dump(), sort_keys=True, ensure_ascii=False) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def prompts_digest(rows: Iterable[ScoreRow]) -> str:
    """SHA-256 of what was asked (ids, repeats, clusters, slices): equal for two tables over the same prompt set."""
    asked = sorted((row.prompt_id, row.repeat, row.cluster_id, sorted(row.slices.items())) for row in rows)
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()
