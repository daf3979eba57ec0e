"""`train`: submit the fine-tune once and wait. A job is named by what goes into it, so a second run attaches."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from scripts import azure_ml, digests, records
from scripts.errors import AzureFailed, InvalidInput
from scripts.settings import Settings
from scripts.training_job import CODE, ENDED, follow, measured, report_failure, status, submit_or_attach, wait

if TYPE_CHECKING:
    from data.manifest import Dataset


class Plan(records.Record):
    """All that determines the result of a training job. `name` is a function of the rest."""

    recipe: str
    recipe_digest: str
    code_digest: str
    data_digest: str
    data_asset: str
    base_model: str
    base_model_digest: str
    period: str = ""  # a retraining of equal inputs because of their age: once a period, not never and not always

    @property
    def name(self) -> str:
        parts = [self.recipe_digest, self.code_digest, self.data_digest, self.base_model, self.base_model_digest]
        parts += [self.period] if self.period else []
        return f"train-{self.recipe.replace('_', '-')}-{digests.of_values(*parts)[:12]}"


def plan(
    recipe: str, dataset: "Dataset", base: records.Model | None, period: str = "", *, uploaded: bool = True
) -> Plan:
    """Digest the inputs of a job. Raises InvalidInput for a recipe or data set that cannot be trained on."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,40}", period):
        raise InvalidInput(f"--period must be a short name such as 2026-Q4, not {period[:60]!r}.")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", recipe):
        raise InvalidInput(f"--recipe takes the name of a file in {CODE}/recipes without .yaml, not {recipe[:60]!r}.")
    path = CODE / "recipes" / f"{recipe}.yaml"
    check_recipe(path)
    if uploaded and not dataset.asset:
        raise InvalidInput(
            f"Data set {dataset.name} was checked but not uploaded: run `python -m scripts data` without --check-only."
        )
    return Plan(
        recipe=recipe,
        recipe_digest=digests.of_file(path),
        code_digest=digests.of_folder(CODE),
        data_digest=dataset.digest,
        data_asset=dataset.asset or "",
        base_model=f"azureml:{base.name}:{base.version}" if base else named_base_model(path),
        base_model_digest=base.digest if base else "",
        period=period,
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


class Waiting(records.Record):
    """What `train` leaves when the wait is over before the job is: the name by which the next run attaches."""

    job_name: str
    status: str
    studio_url: str


def train(
    settings: Settings, work: Plan, *, commit: str = "", retry_failed: bool = False, wait_seconds: float | None = None
) -> records.Training | Waiting:
    """Submit or attach, wait until the job has ended (at most `wait_seconds`), and read what it measured.

    `commit` is kept on a new job, so that a later run can go on from it. Raises AzureFailed when the job failed or was
    cancelled, InvalidInput when its measurements are missing or broken.
    """
    ml = azure_ml.client(settings)
    started = time.monotonic()
    with azure_ml.explained(f"Training job {work.name}"):
        job, attached = submit_or_attach(ml, settings, work, commit=commit, retry_failed=retry_failed)
        if wait_seconds is not None:
            job = wait(ml, job, wait_seconds)
            if status(job) not in ENDED:
                return Waiting(job_name=str(job.name), status=status(job), studio_url=str(job.studio_url))
        if status(job) != "Completed":
            said = follow(ml, str(job.name))
            job = ml.jobs.get(job.name)
            if status(job) != "Completed":
                report_failure(ml, job)
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
