"""The two policies of day 2, each one commented YAML beside this file, checked when it is read."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from scripts import yaml_files

RETRAIN, REAP = (Path(__file__).with_name(name) for name in ("retrain.yaml", "reap.yaml"))
NO_RETENTION_OVER_HOURS = 24 * 365 * 10  # ten years: what is longer is a slip of the pen, and overflows a date


class Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Retrain(Policy):
    """See retrain.yaml for what each key means."""

    min_new_rows: int = Field(ge=1)
    min_new_share: float = Field(gt=0)
    changed_data_of_unknown_size: bool
    max_age_days: float = Field(gt=0)
    age_period: Literal["month", "quarter"]


class Reap(Policy):
    """See reap.yaml for what each key means."""

    retention_hours: float = Field(gt=0, le=NO_RETENTION_OVER_HOURS)
    candidate_hours: float = Field(gt=0, le=NO_RETENTION_OVER_HOURS)
    keep_endpoints: list[str]
    keep_clusters: list[str]


PolicyType = TypeVar("PolicyType", bound=Policy)


def load(kind: type[PolicyType], path: Path) -> PolicyType:
    """Raises InvalidInput naming the file and the key."""
    return yaml_files.read(kind, path, "the policy")
