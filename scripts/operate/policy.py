"""The two policies of day 2, each one commented YAML beside this file, checked when it is read."""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scripts import yaml_files

RETRAIN, REAP = (Path(__file__).with_name(name) for name in ("retrain.yaml", "reap.yaml"))
NO_RETENTION_OVER_HOURS = 24 * 365 * 10  # ten years: what is longer is a slip of the pen, and overflows a date

DELETED_AFTER_DAYS = 14  # so long `pending` looks for releases (scripts/pending.py)


class Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Effect = Annotated[float, Field(gt=0, le=1)]


class Least(Policy):
    """For each signal of scripts/operate/drift.py the smallest effect that counts."""

    topics: Effect
    prompt_length: Effect
    language: Effect
    unknown_tokens: Effect
    answer_length: Effect
    valid: Effect
    refused: Effect
    cut_off: Effect
    judge_score: Effect


class DriftLimits(Policy):
    """See retrain.yaml for what each key means."""

    alpha: float = Field(gt=0, le=0.05)
    min_rows: int = Field(ge=30)
    reference_days: int = Field(ge=1, le=90)
    stale_hours: float = Field(gt=0, le=168)
    permutations: int = Field(ge=199, le=100_000)
    least: Least

    @model_validator(mode="after")
    def _a_test_of_topics_can_pass(self) -> Self:
        needed = len(Least.model_fields) / self.alpha  # or its smallest p value never passes Holm's first step
        if self.permutations + 1 < needed:
            raise ValueError(f"with alpha {self.alpha:g} at least {needed:.0f} permutations are needed")
        return self


class JudgeSample(Policy):
    """Which judge grades how many conversations of each window. `metrics`: its file (docs/evaluators.md)."""

    metrics: str = Field(min_length=1)
    metric: Literal["relevance", "coherence", "fluency"]  # groundedness would need a context, which nobody collects
    rows: int = Field(ge=30, le=10_000)


class Retrain(Policy):
    """See retrain.yaml for what each key means."""

    min_new_rows: int = Field(ge=1)
    min_new_share: float = Field(gt=0)
    changed_data_of_unknown_size: bool
    max_age_days: float = Field(gt=0)
    age_period: Literal["month", "quarter"]
    base_model: bool
    min_fresh_rows: int = Field(ge=30)
    min_score_drop: float = Field(gt=0, le=1)
    drift: DriftLimits
    judge: JudgeSample | None

    @model_validator(mode="after")
    def _a_sample_is_evidence(self) -> Self:
        if self.judge and self.judge.rows < self.drift.min_rows:
            raise ValueError(f"judge.rows must be at least drift.min_rows ({self.drift.min_rows}), or it says nothing")
        return self


class Reap(Policy):
    """See reap.yaml for what each key means."""

    retention_hours: float = Field(gt=0, le=NO_RETENTION_OVER_HOURS)
    candidate_hours: float = Field(gt=0, le=NO_RETENTION_OVER_HOURS)
    model_days: float = Field(gt=0, le=NO_RETENTION_OVER_HOURS / 24)
    keep_models: int = Field(ge=1)
    old_models: Literal["archive", "delete"]
    checkpoint_days: float = Field(gt=0, le=NO_RETENTION_OVER_HOURS / 24)
    keep_endpoints: list[str]
    keep_clusters: list[str]

    @model_validator(mode="after")
    def _no_release_is_begun_again(self) -> Self:
        if self.old_models == "delete" and self.model_days < DELETED_AFTER_DAYS:
            raise ValueError(
                f"model_days must be at least {DELETED_AFTER_DAYS} with old_models: delete, because the verdict on its "
                "model finishes a release, which would be taken up again without it"
            )
        return self


PolicyType = TypeVar("PolicyType", bound=Policy)


def load(kind: type[PolicyType], path: Path) -> PolicyType:
    """Raises InvalidInput naming the file and the key."""
    return yaml_files.read(kind, path, "the policy")
