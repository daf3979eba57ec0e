"""What one evaluation was: the record beside a score table, which says what was asked of which model and how.

The gate compares two of them before it compares any scores: with other prompts, another flow, other decoding or another
judge, the numbers are not about the models.
"""

import hashlib
import json
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from eval.errors import EvalError, first_problem


class RunSummary(BaseModel):
    """Metrics are means over all rows that were not lost to infrastructure; digests are SHA-256 in hex."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    scores: str
    answers: str
    model: str | None = None  # digest of the model that answered
    deployment: str | None
    flow_digest: str  # the prompt flow's files: system prompt, examples, node
    judge_digest: str  # evaluators, their settings, their engine, the judge model if there is one
    decoding: dict[str, bool | float | int | str]  # temperature, max_tokens, …
    few_shot: int
    repeats: int
    prompts: int
    rows: int
    model_errors: int
    blocked: int = 0  # answers that a content filter refused; scored as the model's failures
    infra_errors: int
    metrics: dict[str, float]
    latency_ms_p50: float | None
    tokens: int
    seconds: float  # the whole evaluation
    answer_seconds: float  # of these, asking the model
    caveats: list[str] = []  # what the judge of these scores cannot see
    evaluated_at: AwareDatetime  # when the oldest of the answers was given
    prompts_digest: str
    scores_digest: str

    def conditions(self) -> dict[str, str]:
        """What must be the same on both sides of a comparison, by name.

        Not the number of examples: a live model that is given some is a higher bar, and choosing the best of several
        bars only makes it harder to pass.
        """
        return {
            "flow": self.flow_digest,
            "judge": self.judge_digest,
            "decoding": json.dumps(self.decoding, sort_keys=True),
        }


def beside(scores: Path) -> Path:
    """Where the summary of a score table lies."""
    return scores.with_suffix(".run.json")


def summary_of(scores: Path | None) -> RunSummary | None:
    """The summary beside a score table, if there is one. Raises EvalError for one that cannot be read."""
    return read_summary(beside(scores)) if scores and beside(scores).exists() else None


def read_summary(path: Path) -> RunSummary:
    """Raises EvalError naming the file and what is wrong with it."""
    try:
        return RunSummary.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(
            f"{path}: the summary of the evaluation cannot be read; run `python -m eval.run` again."
        ) from error
    except ValidationError as error:
        raise EvalError(f"{path}: not the summary of an evaluation ({first_problem(error)}).") from error


def digest_of(*parts: str) -> str:
    """SHA-256 over texts, each with its length before it, so that no two lists of parts run into each other."""
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()
