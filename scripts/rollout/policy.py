"""The rollout policy: one commented YAML, checked when it is read."""

from itertools import pairwise
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scripts import yaml_files

DEFAULT = Path(__file__).with_name("policy.yaml")


class Policy(BaseModel):
    """See policy.yaml for what each key means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: list[int] = Field(min_length=1)
    min_candidate_requests: int = Field(ge=1)
    requests_per_look: int = Field(ge=1)
    max_requests_per_step: int = Field(ge=1)
    alpha: float = Field(gt=0, lt=0.5)
    max_looks: int = Field(ge=1)
    max_errors_in_a_row: int = Field(ge=1)
    max_error_rate: float = Field(gt=0, lt=1)
    approval_max_age_hours: float = Field(gt=0)

    @model_validator(mode="after")
    def steps_rise_to_all_traffic(self) -> Self:
        if self.steps[-1] != 100 or self.steps[0] < 1 or any(low >= high for low, high in pairwise(self.steps)):
            raise ValueError(f"steps must rise from at least 1 to 100, not {self.steps}")
        return self


def load(path: Path = DEFAULT) -> Policy:
    """Raises InvalidInput naming the file and the key."""
    return yaml_files.read(Policy, path, "the rollout policy")
