"""The rollout policy: one commented YAML, checked when it is read."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scripts import digests, yaml_files

DEFAULT = Path(__file__).with_name("policy.yaml")
EXACT = 1e-9
LOCAL = DEFAULT.with_name("policy_local.yaml")
Signal = Literal["error", "slow", "safety", "probe"]
Severity = Literal["low", "medium", "high"]
SEVERITIES: dict[Severity, int] = {"low": 2, "medium": 4, "high": 6}  # as Azure AI Content Safety grades, from 0 to 7
Minutes = Annotated[float, Field(ge=0, le=7 * 24 * 60)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bake(Part):
    """What a step needs before the next one."""

    minutes: Minutes
    post_minutes: Minutes
    max_minutes: Minutes
    held_minutes: Minutes
    min_requests: int = Field(ge=1)


class Harm(Part):
    alpha: float = Field(gt=0, lt=0.5)
    worse_than: float = Field(ge=1, le=10)
    signals: dict[Signal, Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    slow_ms: float | None = Field(default=None, gt=0)


class Hard(Part):
    smoke_failures_in_a_row: int = Field(ge=1)
    errors_in_a_row: int = Field(ge=2)
    bad_share: Share
    blind_minutes: Minutes
    provisioning_minutes: Minutes


class Sample(Part):
    per_look: int = Field(ge=1)
    max_per_step: int = Field(ge=1)


class Probes(Part):
    metric: str = Field(min_length=1)
    per_look: int = Field(ge=1)
    max_pairs: int = Field(ge=1, le=400)
    margin: float = Field(ge=0, lt=1)


class Safety(Part):
    pairs_per_look: int = Field(ge=0)
    min_answers: int = Field(ge=1)
    block: Severity
    critical: Severity

    @model_validator(mode="after")
    def critical_is_no_less(self) -> Self:
        if SEVERITIES[self.critical] < SEVERITIES[self.block]:
            raise ValueError(f"critical must not be below block, not {self.critical} below {self.block}")
        return self


class Shadow(Part):
    percent: int = Field(ge=0, le=50)  # Azure mirrors no more
    minutes: Minutes


class Approval(Part):
    required: bool
    max_age_hours: float = Field(gt=0)
    wait_hours: float = Field(gt=0)


class Policy(Part):
    """See policy.yaml for what each key means."""

    steps: list[int] = Field(min_length=1)
    evidence: Literal["users", "sample"]
    bake: Bake
    bad_below: Share
    harm: Harm
    hard: Hard
    sample: Sample
    probes: Probes
    safety: Safety
    smoke_requests: int = Field(ge=1)
    shadow: Shadow
    approval: Approval
    verdict_max_age_hours: float = Field(gt=0)
    retention_hours: float = Field(ge=0)

    @model_validator(mode="after")
    def steps_rise_to_all_traffic(self) -> Self:
        if self.steps[-1] != 100 or self.steps[0] < 1 or any(low >= high for low, high in pairwise(self.steps)):
            raise ValueError(f"steps must rise from at least 1 to 100, not {self.steps}")
        if abs(sum(self.harm.signals.values()) - 1) > EXACT:
            raise ValueError(f"the shares of harm.signals must add up to 1, not {sum(self.harm.signals.values()):g}")
        if self.bake.minutes > self.bake.max_minutes:
            raise ValueError("bake.minutes must not be above bake.max_minutes")
        if "safety" in self.harm.signals and not self.safety.pairs_per_look:
            raise ValueError("harm.signals has safety, but with safety.pairs_per_look 0 no answer is looked at")
        if self.safety.pairs_per_look and self.safety.min_answers > self.probes.max_pairs:
            raise ValueError("safety.min_answers must not be above probes.max_pairs")
        return self

    @property
    def digest(self) -> str:
        return digests.of_values(self.model_dump_json())


def load(path: Path = DEFAULT) -> Policy:
    """Raises InvalidInput naming the file and the key."""
    return yaml_files.read(Policy, path, "the rollout policy")
