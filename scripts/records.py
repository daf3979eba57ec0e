"""The small JSON documents that travel between steps. `dataset.json` is defined in `data`, `verdict.json` in `eval`."""

import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from scripts.errors import InvalidInput

# What a registered model is: a plain transformers folder; a base and an adapter in folders of these names beside each
# other; a graph for ONNX Runtime; a folder in MLflow's form, as the registry's pipeline leaves one.
Artifact = Literal["merged", "lora", "onnx", "mlflow"]


class Part(BaseModel):
    """Base of everything inside a record: unknown keys are errors, nothing changes once read, NaN is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Record(Part):
    schema_version: Literal[1] = 1


class Recipe(Part):
    name: str
    digest: str


class LossPoint(Part):
    step: int
    loss: float


class TrainingMetrics(Part):
    """What the job itself wrote to `outputs/training_metrics.json`. Seconds, MB (10^6 bytes), tokens.

    None: a service that trained for us does not tell.
    """

    loss: list[LossPoint]
    eval_loss: float
    tokens_per_second: float | None
    train_seconds: float | None
    eval_seconds: float | None
    trained_tokens: int | None
    peak_memory_mb: float | None
    steps: int
    model_digest: str
    base_model_digest: str
    perplexity: float | None = None
    token_accuracy: float | None = None
    loss_tokens_per_second: float | None = None
    mfu: float | None = None
    data_wait_share: float | None = None
    device: str | None = None
    processes: int | None = None
    resumed_from_step: int | None = None


class Paid(Part):
    """What a job did cost: from its start to its end on all of its nodes. None: unknown, and `said` is why.

    `priced_at` is the day of the price, `estimated` what was said before the submit ("": nobody asked).
    """

    node_hours: float | None
    amount: float | None
    currency: str
    per_hour: float | None
    priced_at: date | None
    tier: str
    region: str
    estimated: str
    said: str


class Training(Record):
    """`training.json`: one finished training job and what it was made from."""

    route: str = "job"
    job_name: str
    status: str
    attached: bool
    recipe: Recipe
    code_digest: str
    data_digest: str
    base_model: str
    base_model_digest: str
    compute: str
    studio_url: str
    model_output: str
    model_digest: str
    seconds: float
    metrics: TrainingMetrics
    cost: Paid | None = None


class Lineage(Part):
    """What a model came from; empty strings for a base model, which came from outside."""

    data: str = ""
    code: str = ""
    recipe: str = ""
    job: str = ""
    # Of a model that was made smaller: which one it was, and by which recipe of convert/recipes.
    source: str = ""
    source_digest: str = ""
    conversion: str = ""
    route: str = ""  # where it was trained by another route than `job`: its digest is not one of the files' bytes


class Model(Record):
    """`model.json`: a registered model version; `digest` is over the bytes of its files, `artifact` their kind."""

    name: str
    version: str
    id: str
    digest: str
    path: str
    lineage: Lineage
    artifact: Artifact = "merged"


class Live(Record):
    """`live.json`: which colour is live with which model (both empty before the first release), and which is idle.

    While a rollout is under way, `stable` is its way back and `idle` its candidate's colour, wherever the traffic is.
    `scoring_uri` and `deployments` (name → model:version) are for who wants to ask it; "" and {} in older records.
    """

    endpoint: str
    stable: str
    idle: str
    model: Model | None
    scoring_uri: str = ""
    deployments: dict[str, str] = {}


class Smoke(Part):
    requests: int
    failures: int
    latency_ms_p50: float | None
    seconds: float


class Deployment(Record):
    """`deployment-ROLE.json`: one deployment and the smoke test it passed by direct header."""

    endpoint: str
    deployment: str
    model: str
    model_digest: str
    instance_type: str
    tier: str = "python"
    weight: int
    smoke: Smoke
    kept: bool = False  # it was there already, made of the same parts


class Step(Part):
    """One weight of the rollout: what was read back and what the requests themselves said.

    `sending_seconds`: how long requests were in flight, the rest of the step is writing and reading weights.
    """

    weight: int
    traffic_read_back: dict[str, int]
    requests: dict[str, int]
    errors: dict[str, int]
    latency_ms_p50: dict[str, float]
    latency_ms_p95: dict[str, float]
    sending_seconds: float
    decision: str
    reason: str
    started_at: datetime
    ended_at: datetime


class Write(Part):
    at: datetime
    traffic: dict[str, int]


class Rollout(Record):
    """`rollout.json`: every weight that was written and why the rollout ended as it did.

    `state` is a phase of scripts/rollout/state.py, of a rollout that is still under way too. `stable` is "" for a first
    release. `epoch` counts the processes that ran it, `runner` is where the last one ran.
    """

    endpoint: str
    stable: str
    candidate: str
    state: str
    reason: str
    verdict_digest: str
    approved_by: str | None = None
    epoch: int = 1
    runner: str = ""
    started_at: datetime
    ended_at: datetime
    steps: list[Step]
    writes: list[Write]


RecordType = TypeVar("RecordType", bound=BaseModel)
# Who writes which record, for whoever lacks it.
WRITERS = {
    "Dataset": "data",
    "Training": "train",
    "Model": "register",
    "Live": "live",
    "Verdict": "gate",
    "Approval": "rollout approve",
    "Rollout": "rollout run",
}


def now() -> datetime:
    return datetime.now(UTC)


def read(kind: type[RecordType], path: Path) -> RecordType:
    """Read one record. Raises InvalidInput when the file is missing, not JSON or not of the record's shape."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        before = f"`python -m scripts {WRITERS[kind.__name__]}`" if kind.__name__ in WRITERS else "the step"
        raise InvalidInput(
            f"{path}: the {kind.__name__} record cannot be read ({error.strerror}); run {before} that writes it."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise InvalidInput(f"{path}: not a {kind.__name__} record: {where}: {first['msg']}.") from None


def write(record: BaseModel, path: Path) -> None:
    """Write a record beside its place and rename it, so that a reader never sees half of one."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written ({error.strerror}); choose another --out.") from None
