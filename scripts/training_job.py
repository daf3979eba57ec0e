"""The training job on Azure: submit it once under its name, wait for it, read what it measured."""

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, records, resubmit, sweep
from scripts.errors import AzureFailed, InvalidInput
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

    from scripts.train import Plan

CODE = Path("training")
CHECKPOINTS = "azureml://datastores/workspaceblobstore/paths/checkpoints/{work}"
ENDED_BADLY = {"Failed", "Canceled", "NotResponding"}
ENDED = {"Completed", *ENDED_BADLY}
REPORTED = "reported"
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 1.0, 30.0  # between two looks: a job fails early or runs for hours


def wait(ml: "MLClient", job: "Job", seconds: float, *, pause: Callable[[float], None] = time.sleep) -> "Job":
    """Look at a job until it has ended or `seconds` have passed; returns it as it was seen last."""
    deadline, between = time.monotonic() + seconds, FIRST_LOOK_SECONDS
    with azure_ml.waiting(f"Waiting for {job.name}"):
        while status(job) not in ENDED and (left := deadline - time.monotonic()) > 0:
            pause(min(between, left))
            between = min(between * 1.5, LAST_LOOK_SECONDS)
            job = ml.jobs.get(job.name)
    return job


def report_failure(ml: "MLClient", job: "Job") -> None:
    """Note on a failed job that people were told, so that the schedule does not tell them again and again."""
    job.tags = {**(job.tags or {}), REPORTED: "true"}
    with contextlib.suppress(Exception):  # the failure itself is what people must read
        ml.jobs.create_or_update(job)


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


def submit_or_attach(
    ml: "MLClient",
    settings: Settings,
    work: "Plan",
    entity: "Callable[[MLClient, Settings, Plan, str, Mapping[str, str]], Job]",
    affordable: Callable[[], dict[str, str]],
    *,
    retry_failed: bool = False,
) -> tuple["Job", bool]:
    """Find the job of this name, or its last retry, and submit only when there is none.

    `affordable` is asked before anything is uploaded: it raises Refused, or gives the new job's tags; `entity` makes
    the job of the plan's route. A job that failed is not paid for again unless that was asked for, or it lost its node:
    each retry has a name of its own.
    """
    for attempt in range(1, 11):
        name = work.name if attempt == 1 else f"{work.name}-retry{attempt - 1}"
        try:
            job = ml.jobs.get(name)
        except ResourceNotFoundError:
            told = {**affordable(), **resubmit.tags(settings, work)}
            with azure_ml.waiting(f"Submitting {name}"):
                return ml.jobs.create_or_update(entity(ml, settings, work, name, told)), False
        if status(job) not in ENDED_BADLY:
            return job, True
        if not retry_failed and resubmit.goes_on(settings, work, status(job), job.tags or {}) is None:
            # A later retry may exist and have done better: look for it, but make none.
            try:
                ml.jobs.get(f"{work.name}-retry{attempt}")
            except ResourceNotFoundError:
                report_failure(ml, job)
                raise AzureFailed(
                    f"Training job {name} {status(job).lower()} before (log: {job.studio_url}); "
                    "run `train --retry-failed` to pay for another try."
                ) from None
    raise AzureFailed(f"Training job {work.name} failed ten times; find the cause before you pay for an eleventh.")


def tags(work: "Plan", commit: str = "") -> dict[str, str]:
    """What every new job says of itself, whatever its route, so that later runs find it and go on from it."""
    named = {"base": work.base, "period": work.period, "sweep": work.sweep, "commit": commit}
    return {
        "recipe": work.recipe,
        "recipe_digest": work.recipe_digest,
        "code_digest": work.code_digest,
        "data_digest": work.data_digest,
        "base_model": work.base_model,
        **{key: value for key, value in named.items() if value},
    }


def command_job(settings: Settings, work: "Plan", name: str, tags: Mapping[str, str], environment: str) -> "Job":
    """The fine-tune as a command job: code snapshot, data asset, base model, folders for what it leaves.

    Checkpoints go where the next try of the same work finds them: the folder is named by the work, not by the try.
    """
    from azure.ai.ml import Input, Output, PyTorchDistribution, command

    search = sweep.load(work.sweep) if work.sweep else None
    inputs: dict[str, Any] = {"data": Input(type="uri_folder", path=work.data_asset)}
    outputs = {"model": Output(type="uri_folder"), "adapter": Output(type="uri_folder")}
    line = f"python train.py --recipe recipes/{work.recipe}.yaml --data ${{{{inputs.data}}}}"
    if work.base_model.startswith("azureml:"):
        inputs["base_model"] = Input(type="custom_model", path=work.base_model)
        line += " --base-model ${{inputs.base_model}}"
    if work.checkpoints:
        place = CHECKPOINTS.format(work=work.name) + ("/${{name}}" if search else "")
        outputs["checkpoints"] = Output(type="uri_folder", mode="rw_mount", path=place)
    line += "".join(f" --{'output' if key == 'model' else key} ${{{{outputs.{key}}}}}" for key in outputs)
    processes, instances = work.scale.processes_per_instance, work.scale.instances
    job = command(
        name=name,
        display_name=name,
        experiment_name=settings.experiment,
        code=str(CODE),
        command=line + (sweep.options(search) if search else ""),
        inputs=inputs,
        outputs=outputs,
        environment=environment,
        compute=settings.compute.name,
        instance_count=instances,
        distribution=PyTorchDistribution(process_count_per_instance=processes) if processes * instances > 1 else None,
        tags=dict(tags),
    )
    return sweep.sweep_job(search, job._to_job(), inputs, outputs) if search else job


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
