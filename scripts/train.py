"""`train`: submit the fine-tune once and wait. A job is named by what goes into it, so a second run attaches."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, digests, records
from scripts.errors import AzureFailed, InvalidInput
from scripts.provision import environment_version
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

    from data.manifest import Dataset

CODE = Path("training")
ENDED_BADLY = {"Failed", "Canceled", "NotResponding"}


@dataclass(frozen=True)
class Plan:
    """All that determines the result of a training job. `name` is a function of the rest."""

    recipe: str
    recipe_digest: str
    code_digest: str
    data_digest: str
    data_asset: str
    base_model: str
    base_model_digest: str

    @property
    def name(self) -> str:
        parts = (self.recipe_digest, self.code_digest, self.data_digest, self.base_model, self.base_model_digest)
        return f"train-{self.recipe.replace('_', '-')}-{digests.of_values(*parts)[:12]}"


def plan(recipe: str, dataset: "Dataset", base: records.Model | None) -> Plan:
    """Digest the inputs of a job. Raises InvalidInput for a recipe or data set that cannot be trained on."""
    path = CODE / "recipes" / f"{recipe}.yaml"
    check_recipe(path)
    if not dataset.asset:
        raise InvalidInput(
            f"Data set {dataset.name} was checked but not uploaded: run `python -m scripts data` without --check-only."
        )
    return Plan(
        recipe=recipe,
        recipe_digest=digests.of_file(path),
        code_digest=digests.of_folder(CODE),
        data_digest=dataset.digest,
        data_asset=dataset.asset,
        base_model=f"azureml:{base.name}:{base.version}" if base else named_base_model(path),
        base_model_digest=base.digest if base else "",
    )


def check_recipe(path: Path) -> None:
    """Let the training code itself judge the recipe, before a GPU is paid for."""
    checked = subprocess.run(
        [sys.executable, str(CODE / "train.py"), "--recipe", str(path), "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    if checked.returncode:
        said = (checked.stderr or checked.stdout).strip().splitlines()
        raise InvalidInput(
            said[-1].removeprefix("error: ") if said else f"{path}: the training code refuses this recipe."
        )


def named_base_model(path: Path) -> str:
    """The base model that a recipe names; its pinned revision is in the recipe, and so in the recipe's digest."""
    return str(yaml.safe_load(path.read_text(encoding="utf-8"))["base_model"]["source"])


def train(settings: Settings, work: Plan, *, retry_failed: bool = False) -> records.Training:
    """Submit or attach, stream the log until the job has ended, and read what it measured.

    Raises AzureFailed when the job failed or was cancelled, InvalidInput when its measurements are missing or broken.
    """
    ml = azure_ml.client(settings)
    started = time.monotonic()
    with azure_ml.explained(f"Training job {work.name}"):
        job, attached = submit_or_attach(ml, settings, work, retry_failed=retry_failed)
        if status(job) != "Completed":
            said = follow(ml, str(job.name))
            job = ml.jobs.get(job.name)
            if status(job) != "Completed":
                raise AzureFailed(f"Training job {job.name} ended as {status(job)}{said}; its log: {job.studio_url}.")
        metrics = measured(ml, str(job.name))
    if work.base_model_digest not in ("", metrics.base_model_digest):
        raise InvalidInput(
            f"Training job {job.name} started from model {metrics.base_model_digest[:12]}, "
            f"not from {work.base_model} ({work.base_model_digest[:12]}): its model cannot be trusted."
        )
    return records.Training(
        job_name=str(job.name),
        status=status(job),
        attached=attached,
        recipe=records.Recipe(name=work.recipe, digest=work.recipe_digest),
        code_digest=work.code_digest,
        data_digest=work.data_digest,
        base_model=work.base_model,
        base_model_digest=metrics.base_model_digest,
        compute=settings.compute.size,
        studio_url=str(job.studio_url),
        model_output=f"azureml://jobs/{job.name}/outputs/model",
        model_digest=metrics.model_digest,
        seconds=round(time.monotonic() - started, 1),
        metrics=metrics,
    )


def follow(ml: "MLClient", job: str) -> str:
    """Stream a job's log until it has ended. Returns ": why" for one that failed and left a reason, else ""."""
    from azure.ai.ml.exceptions import JobException

    try:
        ml.jobs.stream(job)
    except JobException as error:
        return last_words(str(error.message))
    return ""


def last_words(message: str) -> str:
    """ ": why" out of the SDK's "Exception : {…}", which ends with what the job itself wrote last."""
    try:
        said = str(json.loads(message[message.index("{") :])["error"]["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return ""
    return ": " + said.splitlines()[-1].strip().removeprefix("error: ").rstrip(".") if said else ""


def status(job: "Job") -> str:
    """A job's status as Azure writes it. The SDK gives a string for some states and a member of an enum for others."""
    return str(getattr(job.status, "value", job.status))


def submit_or_attach(ml: "MLClient", settings: Settings, work: Plan, *, retry_failed: bool) -> tuple["Job", bool]:
    """Find the job of this name, or its last retry, and submit only when there is none.

    A job that failed is not paid for again unless that was asked for: each retry has a name of its own.
    """
    for attempt in range(1, 11):
        name = work.name if attempt == 1 else f"{work.name}-retry{attempt - 1}"
        try:
            job = ml.jobs.get(name)
        except ResourceNotFoundError:
            with azure_ml.waiting(f"Submitting {name}"):
                return ml.jobs.create_or_update(command_job(settings, work, name)), False
        if status(job) not in ENDED_BADLY:
            return job, True
        if not retry_failed:
            # A later retry may exist and have done better: look for it, but make none.
            try:
                ml.jobs.get(f"{work.name}-retry{attempt}")
            except ResourceNotFoundError:
                raise AzureFailed(
                    f"Training job {name} {status(job).lower()} before (log: {job.studio_url}); "
                    "run `train --retry-failed` to pay for another try."
                ) from None
    raise AzureFailed(f"Training job {work.name} failed ten times; find the cause before you pay for an eleventh.")


def command_job(settings: Settings, work: Plan, name: str) -> "Job":
    """The fine-tune as a command job: code snapshot, data asset, base model, one output folder."""
    from azure.ai.ml import Input, Output, command

    inputs: dict[str, Any] = {"data": Input(type="uri_folder", path=work.data_asset)}
    line = f"python train.py --recipe recipes/{work.recipe}.yaml"
    line += " --data ${{inputs.data}} --output ${{outputs.model}}"
    if work.base_model.startswith("azureml:"):
        inputs["base_model"] = Input(type="custom_model", path=work.base_model)
        line += " --base-model ${{inputs.base_model}}"
    image = settings.training_environment
    return command(
        name=name,
        display_name=name,
        experiment_name=settings.experiment,
        code=str(CODE),
        command=line,
        inputs=inputs,
        outputs={"model": Output(type="uri_folder")},
        environment=f"azureml:{image.name}:{environment_version(image)}",
        compute=settings.compute.name,
        tags={
            "recipe": work.recipe,
            "recipe_digest": work.recipe_digest,
            "code_digest": work.code_digest,
            "data_digest": work.data_digest,
            "base_model": work.base_model,
        },
    )


def measured(ml: "MLClient", job: str) -> records.TrainingMetrics:
    """What the job wrote to `outputs/training_metrics.json`; what measured nothing trained nothing we can trust."""
    with tempfile.TemporaryDirectory() as folder:
        with azure_ml.waiting(f"Reading what {job} measured"):
            ml.jobs.download(job, download_path=folder)
        found = list(Path(folder).rglob("training_metrics.json"))
        if len(found) != 1:
            raise InvalidInput(
                f"Training job {job} left no outputs/training_metrics.json: its model cannot be registered."
            )
        return records.read(records.TrainingMetrics, found[0])
