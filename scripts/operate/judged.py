"""Grades that a judge gave to a sample of collected conversations: one small document per window and judge.

Kept beside what was collected, in the workspace's storage, so that `retrain-decision` finds what `data judge` wrote.
The judge's digest is part of the place: a changed judge begins anew, and two judges' grades are never held against
each other. A document counts only when every conversation of its sample has a grade.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, ValidationError

from scripts import records
from scripts.errors import InvalidInput
from scripts.operate.facts import Live
from scripts.operate.policy import JudgeSample
from scripts.operate.windows import Window

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

    from eval.metrics import Metrics
    from scripts.operate.drift import Column

FOLDER = "judged"
Grade = Annotated[float, Field(ge=1, le=5)]


class Judged(records.Record):
    """`kept` conversations of the window were found, `sample` of them were to be judged; grades by conversation."""

    model: str
    window: str
    judge_digest: str
    metric: str
    kept: int
    sample: int
    grades: dict[str, Grade]

    @property
    def complete(self) -> bool:
        return 0 < self.sample == len(self.grades)


def judge(sample: JudgeSample) -> "tuple[Metrics, str]":
    """The one evaluator that the policy names, and its digest. Raises EvalError, InvalidInput for what is not there."""
    from eval.metrics import judge_digest, load_metrics

    found = load_metrics(Path(sample.metrics))
    if sample.metric not in found.judged:
        raise InvalidInput(
            f"{sample.metrics}: {sample.metric} is not among its evaluators; add it, with a judge model."
        )
    only = found.model_copy(update={"evaluators": {sample.metric: found.evaluators[sample.metric]}})
    return only, judge_digest(only)


def place(endpoint: str, live: Live, window: Window, digest: str) -> str:
    days = f"{window.start:%Y-%m-%d}_{window.end:%Y-%m-%d}"
    return f"{FOLDER}/{endpoint}/{live.deployment}/{live.model.replace(':', '-')}/{days}/{digest[:16]}.json"


def read(box: "ContainerClient", name: str, digest: str) -> Judged | None:
    """None when there is none, or something else lies there: then it is judged anew."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        found = Judged.model_validate_json(box.download_blob(name).readall())
    except (ResourceNotFoundError, ValidationError):
        return None
    return found if found.judge_digest == digest else None


def write(box: "ContainerClient", name: str, document: Judged) -> None:
    box.upload_blob(name, document.model_dump_json(indent=1).encode(), overwrite=True)


def column(document: Judged) -> "Column":
    return np.array([document.grades[name] for name in sorted(document.grades)], np.float64)
