"""A search for hyper-parameters as an Azure ML sweep job: a recipe's training job with some values tried."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from scripts import records
from scripts.errors import AzureFailed, InvalidInput

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

SWEEPS = Path("training/sweeps")
BEST = "best_child_run_id"  # property of a sweep job that has completed
Positive = Annotated[int, Field(gt=0)]


class Span(records.Part):
    """Values to try: `of` some, or `from` one `to` another."""

    of: list[int | float | str] | None = None
    low: float | None = Field(None, alias="from", gt=0)
    high: float | None = Field(None, alias="to", gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> "Span":
        spans = self.low is not None and self.high is not None and self.low < self.high and self.of is None
        if not spans and (not self.of or self.low is not None or self.high is not None):
            raise ValueError("must be {of: [values]} or {from: low, to: high}")
        return self

    def ends(self) -> list[Any]:
        return list(self.of) if self.of else [self.low, self.high]


class Sweep(records.Part):
    trials: Positive
    at_once: Positive
    hours: Positive
    metric: Literal["eval_loss"]
    stop_after_evaluations: Positive | None
    search: dict[str, Span] = Field(min_length=1)

    def changes(self) -> list[list[str]]:
        """The values at the ends of each span, to be judged by the recipe before a trial costs anything."""
        return [[f"{key}={value}"] for key, span in self.search.items() for value in span.ends()]


def load(name: str) -> Sweep:
    """The sweep of this name. Raises InvalidInput."""
    path = SWEEPS / f"{name}.yaml"
    try:
        return Sweep.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError:
        known = ", ".join(sorted(each.stem for each in SWEEPS.glob("*.yaml")))
        raise InvalidInput(
            f"--sweep takes the name of a file in {SWEEPS} without .yaml ({known}), not {name[:60]!r}."
        ) from None
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: not YAML: {' '.join(str(error).split())}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidInput(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}.") from None


def argument(key: str) -> str:
    """A parameter's name as Azure allows it: `optimizer.learning_rate` is `optimizer_learning_rate` there."""
    return key.replace(".", "_")


def options(sweep: Sweep) -> str:
    """What a trial's command line has beside that of the plain job."""
    return "".join(f" --set {key}=${{{{search_space.{argument(key)}}}}}" for key in sweep.search)


def sweep_job(sweep: Sweep, trial: "Job", inputs: dict[str, Any], outputs: dict[str, Any]) -> "Job":
    """The job that runs the trials. `trial` is the training job of the recipe, with `options` in its command."""
    from azure.ai.ml.sweep import Choice, LogUniform, MedianStoppingPolicy, Objective, SweepJob, SweepJobLimits

    space = {
        argument(key): Choice(span.of) if span.of else LogUniform(math.log(span.low or 1), math.log(span.high or 1))
        for key, span in sweep.search.items()
    }
    stop = sweep.stop_after_evaluations
    return SweepJob(
        name=trial.name,
        display_name=trial.name,
        experiment_name=trial.experiment_name,
        tags=trial.tags,
        compute=trial.compute,
        trial=trial,
        inputs=inputs,
        outputs=outputs,
        sampling_algorithm="random",
        search_space=space,
        objective=Objective(goal="minimize", primary_metric=sweep.metric),
        limits=SweepJobLimits(
            max_total_trials=sweep.trials, max_concurrent_trials=sweep.at_once, timeout=sweep.hours * 3600
        ),
        early_termination=MedianStoppingPolicy(delay_evaluation=stop, evaluation_interval=1) if stop else None,
    )


def best_trial(job: "Job") -> str:
    """The name of the best trial of a completed sweep. Raises AzureFailed when none was found."""
    best = (job.properties or {}).get(BEST)
    if not best:
        raise AzureFailed(f"Sweep {job.name} completed without a best trial; look at its trials: {job.studio_url}.")
    return str(best)
