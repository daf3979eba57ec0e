"""The gate's policy: what a candidate must show, from YAML. The file explains each key; unknown ones are errors."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eval.errors import EvalError, first_problem

DEFAULT_POLICY = Path(__file__).with_name("policy.yaml")

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Alpha = Annotated[float, Field(gt=0, lt=0.5)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricPolicy(_Strict):
    """One metric's demands; see policy.yaml for the words."""

    name: Text
    kind: Literal["binary", "score"]
    primary: bool = True
    margin: NonNegative
    min_drop: NonNegative = 0.0
    floor: Finite | None = None
    direction: Literal["higher", "lower"] = "higher"
    range: tuple[Finite, Finite] = (0.0, 1.0)
    only: dict[str, str] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "MetricPolicy":
        low, high = self.range
        if low >= high:
            raise ValueError(f"the range of {self.name} must rise")
        if self.kind == "binary" and (self.range != (0.0, 1.0) or self.direction != "higher"):
            raise ValueError(f"{self.name} is binary, so 1 is good, 0 is bad and range and direction stay out")
        if self.margin >= high - low:
            raise ValueError(f"the margin of {self.name} is as large as its range, so everything would pass")
        if self.floor is not None and not low <= self.floor <= high:
            raise ValueError(f"the floor of {self.name} lies outside its range")
        return self

    @property
    def worst(self) -> float:
        """The value that a missing answer scores."""
        return self.range[0] if self.direction == "higher" else self.range[1]

    @property
    def best(self) -> float:
        return self.range[1] if self.direction == "higher" else self.range[0]


class LatencyPolicy(_Strict):
    max_ratio: Ratio
    p95_max_ratio: Ratio | None = None


class CostPolicy(_Strict):
    max_ratio: Ratio


class MustPassPolicy(_Strict):
    tag: Text
    metric: Text


class SafetyPolicy(_Strict):
    """`metric` is 1 for an answer that must not be given. Its rate must be shown to lie below `max_rate`."""

    metric: Text
    max_rate: Annotated[float, Field(gt=0, lt=1)]
    zero_tolerance: bool = False
    only: dict[str, str] = {}


class SlicePolicy(_Strict):
    tags: list[str] = []
    alpha: Alpha = 0.01
    min_clusters: Annotated[int, Field(ge=2)] = 20
    min_drop: NonNegative = 0.0


class Policy(_Strict):
    """The whole policy. `metrics` may be empty here so that the decider can say INVALID about it."""

    schema_version: Literal[1] = 1
    alpha: Alpha = 0.05
    min_rows: Annotated[int, Field(ge=2)] = 20
    min_clusters: Annotated[int, Field(ge=2)] = 20
    max_infra_error_rate: Share = 0.02
    seed: Annotated[int, Field(ge=0)] = 0
    metrics: list[MetricPolicy] = []
    repeats: Annotated[int, Field(ge=1)] | None = None
    looks: Literal[1, 2] = 1
    max_age_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    must_pass: MustPassPolicy | None = None
    safety: list[SafetyPolicy] = []
    latency: LatencyPolicy | None = None
    cost: CostPolicy | None = None
    slices: SlicePolicy | None = None

    @model_validator(mode="after")
    def _unique(self) -> "Policy":
        names = [metric.name for metric in self.metrics]
        if len(names) != len(set(names)):
            raise ValueError("a metric is named twice")
        if self.must_pass and self.must_pass.metric not in {m.name for m in self.metrics if m.kind == "binary"}:
            known = ", ".join(m.name for m in self.metrics if m.kind == "binary") or "none"
            raise ValueError(f"must_pass.metric must be a binary metric of this policy: {known}")
        return self

    def required(self) -> list[str]:
        """Metrics that every answered row must have."""
        return [name for name, where in self.needed().items() if {} in where]

    def needed(self) -> dict[str, list[dict[str, str]]]:
        """Metrics that rows must have, each with the tags of the rows that must have it ({}: every row)."""
        wanted: dict[str, list[dict[str, str]]] = {}
        for name, only in [(m.name, m.only) for m in self.metrics] + [(s.metric, s.only) for s in self.safety]:
            wanted.setdefault(name, []).append(only)
        return wanted

    def digest(self) -> str:
        """SHA-256 of the policy's content: comments and key order in the YAML do not count."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_policy(path: Path = DEFAULT_POLICY) -> Policy:
    """Read a policy file. Raises EvalError naming the file and the key that is wrong."""
    import yaml

    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(f"{path}: the policy cannot be read ({_why(error)}); give a file with --policy.") from error
    except yaml.YAMLError as error:
        raise EvalError(f"{path}: the policy is not YAML ({' '.join(str(error).split())}).") from error
    if not raw:
        raise EvalError(f"{path}: the policy is empty; copy eval/policy.yaml and set the metrics.")
    try:
        return Policy.model_validate(raw)
    except ValidationError as error:
        raise EvalError(f"{path}: {first_problem(error)}.") from error


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "not UTF-8"
