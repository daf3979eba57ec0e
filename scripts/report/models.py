"""What the report reads of each record.

The packages that write a record hold its strict model. The report has to describe a train that stopped anywhere, and
records written by a newer version, so these models ignore unknown keys and ask for as little as possible: a number that
is not there is `None`, and `None` is shown as "not recorded", never as zero.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Outcome = Literal["pass", "fail", "inconclusive", "invalid"]


def _null_to_list(value: Any) -> Any:
    return [] if value is None else value


def _null_to_dict(value: Any) -> Any:
    return {} if value is None else value


def _null_to_text(value: Any) -> Any:
    return "" if value is None else value


def _pair(value: Any) -> Any:
    """An interval counts only when both of its ends are numbers."""
    if isinstance(value, list | tuple) and len(value) == 2 and None not in value:
        return tuple(value)
    return None


Interval = Annotated[tuple[float, float] | None, BeforeValidator(_pair)]
Counts = Annotated[dict[str, int], BeforeValidator(_null_to_dict)]
Numbers = Annotated[dict[str, float | None], BeforeValidator(_null_to_dict)]


class Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class DataFile(Record):
    sha256: str | None = None
    rows: int | None = None
    tokens: int | None = None


class Check(Record):
    code: str
    severity: str = "info"
    count: int | None = None
    message: str = ""
    examples: Annotated[list[Any], BeforeValidator(_null_to_list)] = []


class Dataset(Record):
    name: str | None = None
    version: str | None = None
    digest: str | None = None
    asset: str | None = None
    files: Annotated[dict[str, DataFile], BeforeValidator(_null_to_dict)] = {}
    checks: Annotated[list[Check], BeforeValidator(_null_to_list)] = []


class LossPoint(Record):
    step: float
    loss: float | None = None


class TrainingMetrics(Record):
    loss: Annotated[list[LossPoint], BeforeValidator(_null_to_list)] = []
    eval_loss: float | None = None
    tokens_per_second: float | None = None
    train_seconds: float | None = None
    trained_tokens: float | None = None
    peak_memory_mb: float | None = None


class Recipe(Record):
    name: str | None = None
    digest: str | None = None


class Paid(Record):
    node_hours: float | None = None
    amount: float | None = None
    currency: str = ""
    priced_at: str | None = None
    estimated: str = ""
    said: str = ""


class Training(Record):
    job_name: str | None = None
    status: str = "unknown"
    attached: bool | None = None
    recipe: Annotated[Recipe, BeforeValidator(_null_to_dict)] = Recipe()
    code_digest: str | None = None
    data_digest: str | None = None
    base_model: str | None = None
    base_model_digest: str | None = None
    compute: str | None = None
    studio_url: str | None = None
    model_digest: str | None = None
    seconds: float | None = None
    metrics: Annotated[TrainingMetrics, BeforeValidator(_null_to_dict)] = TrainingMetrics()
    cost: Paid | None = None


class Model(Record):
    name: str | None = None
    version: str | int | None = None
    digest: str | None = None
    lineage: Annotated[dict[str, Any], BeforeValidator(_null_to_dict)] = {}


class Live(Record):
    """Where the traffic was before the release. `stable` is "" where nothing was live."""

    stable: str
    idle: str = ""
    model: Model | None = None


class Deployment(Record):
    endpoint: str | None = None
    deployment: str | None = None
    model: str | None = None
    model_digest: str | None = None
    instance_type: str | None = None
    tier: str | None = None
    weight: int | None = None
    smoke: Annotated[dict[str, Any], BeforeValidator(_null_to_dict)] = {}


class Comparison(Record):
    """What a metric and a slice have in common. `difference` is candidate minus baseline, in the metric's own unit."""

    n: int | None = None
    clusters: int | None = None
    baseline: float | None = None
    candidate: float | None = None
    difference: float | None = None
    interval: Interval = None
    outcome: str = "unknown"


class Metric(Comparison):
    name: str
    kind: str = ""
    primary: bool = True
    direction: str = "higher"
    margin: float | None = None
    floor: float | None = None
    reason: str | None = None
    candidate_interval: Interval = None


class Slice(Comparison):
    metric: str = ""
    tag: str
    value: str | int | float | bool


class Guard(Record):
    """A limit that is not a metric of the answers, such as the ratio of latencies."""

    name: str
    value: float | None = None
    interval: Interval = None
    limit: float | None = None
    outcome: str = "unknown"
    reason: str | None = None


class Verdict(Record):
    outcome: Outcome
    bound: bool = False
    reason: str = ""
    metrics: Annotated[list[Metric], BeforeValidator(_null_to_list)] = []
    slices: Annotated[list[Slice], BeforeValidator(_null_to_list)] = []
    guards: Annotated[list[Guard], BeforeValidator(_null_to_list)] = []
    alpha: float | None = None
    candidate_model: str | None = None
    baseline_model: str | None = None
    policy_digest: str | None = None
    prompts_digest: str | None = None
    candidate_scores_digest: str | None = None
    baseline_scores_digest: str | None = None
    judge_digest: str | None = None
    flow_digest: str | None = None
    look: int = 1
    caveats: list[str] = []
    created_at: str | None = None
    digest: str | None = None


class RolloutStep(Record):
    weight: int | None = None
    traffic_read_back: Counts = {}
    requests: Counts = {}
    errors: Counts = {}
    latency_ms_p50: Numbers = {}
    latency_ms_p95: Numbers = {}
    decision: str = ""
    reason: str | None = None
    started_at: str | None = None
    ended_at: str | None = None


class Write(Record):
    at: str | None = None
    traffic: Counts


class Rollout(Record):
    """`stable` is "" in a first release: nothing was live that traffic could come back to."""

    endpoint: str | None = None
    stable: Annotated[str, BeforeValidator(_null_to_text)]
    candidate: str
    state: str
    reason: str | None = None
    verdict_digest: str | None = None
    approved_by: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    steps: Annotated[list[RolloutStep], BeforeValidator(_null_to_list)] = []
    writes: Annotated[list[Write], BeforeValidator(_null_to_list)] = []


class StageSeconds(Record):
    stage: str
    seconds: float = Field(ge=0)


class ScoreRow(Record):
    prompt_id: str
    repeat: int = 0
    cluster_id: str | None = None
    status: str = "ok"
    metrics: Numbers = {}
    latency_ms: float | None = None
    tokens: float | None = None


class Turn(Record):
    role: str
    content: str


class AnswerRow(Record):
    prompt_id: str
    repeat: int = 0
    history: list[Turn] = []
    prompt: str = ""
    expected: str = ""
    answer: str | None = None
