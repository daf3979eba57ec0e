"""`route: job` (the default): our own training code, as a command job on the environment's cluster."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts import digests, records, retired, training_job, training_size
from scripts import register as registering
from scripts.cost import hours, runs
from scripts.errors import InvalidInput
from scripts.provision import registered
from scripts.settings import Settings
from scripts.training_job import CODE

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

    from data.manifest import Dataset
    from scripts.sweep import Sweep
    from scripts.train import Plan

forecast, settle = runs.forecast, runs.settle  # the cluster's hours at their price


def check(path: Path, changes: Sequence[str] = ()) -> None:
    """Let the training code itself judge the recipe, with some values changed, before a GPU is paid for."""
    sets = [word for change in changes for word in ("--set", change)]
    checked = subprocess.run(
        [sys.executable, str(CODE / "train.py"), "--recipe", str(path), "--check", *sets],
        check=False,
        capture_output=True,
        text=True,
    )
    if checked.returncode:
        said = (checked.stderr or checked.stdout).strip().splitlines()
        raise InvalidInput(
            said[-1].removeprefix("error: ") if said else f"{path}: the training code refuses this recipe."
        )


def parts(recipe: str, content: dict[str, Any], dataset: "Dataset", tried: "Sweep | None") -> dict[str, Any]:
    """The base model that the recipe names has its pinned revision there, and so in the recipe's digest."""
    return {
        "code_digest": digests.of_folder(CODE),
        "base_model": str(content["base_model"]["source"]),
        "scale": training_size.Scale(**{key: content["scale"][key] for key in training_size.Scale.model_fields}),
        "checkpoints": bool(content["run"]["checkpoint_every"]),
        "load": load(recipe, content, dataset, tried),
    }


def load(recipe: str, content: dict[str, Any], dataset: "Dataset", tried: "Sweep | None") -> hours.Work:
    """How much a recipe trains on a data set, in all epochs and, of a search, in all trials."""
    rows = dataset.files["train"]
    epochs = [int(each) for each in tried.search["run.epochs"].ends()] if tried and "run.epochs" in tried.search else []
    trials = tried.trials if tried else 1
    return hours.work(recipe, content, rows.tokens, rows.rows, trials=trials, epochs=max(epochs, default=0))


def where(settings: Settings) -> str:
    return settings.compute.size


def ready(settings: Settings, _ml: "MLClient", work: "Plan", _tell: Callable[[str], None]) -> "Plan":
    retired.check_size("compute.size", settings.compute.size)
    training_size.check(settings.compute.size, settings.compute.max_instances, work.recipe, work.scale)
    return work


def entity(ml: "MLClient", settings: Settings, work: "Plan", name: str, tags: Mapping[str, str]) -> "Job":
    return training_job.command_job(settings, work, name, tags, registered(ml, settings.training_environment))


def why(_ml: "MLClient", _name: str) -> str:
    return ""  # the job's log ends with it, and `follow` has read that


def measured(_settings: Settings, ml: "MLClient", _work: "Plan", name: str) -> records.TrainingMetrics:
    return training_job.measured(ml, name)


def output(name: str) -> str:
    return f"azureml://jobs/{name}/outputs/model"


def register(settings: Settings, training: records.Training) -> records.Model:
    return registering.register_job(settings, training)
