"""`train`: submit the fine-tune once and wait. A job is named by what goes into it, so a second run attaches."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from scripts import azure_ml, digests, records, resubmit, sweep, training_size
from scripts.cost import estimate, hours, prices, runs
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
    base: str = ""  # the recipe's "SOURCE REVISION", for whoever asks later whether it has moved on
    period: str = ""  # a retraining of equal inputs because of their age: once a period, not never and not always
    sweep: str = ""  # a search over some values of the recipe, by the name of its file
    scale: training_size.Scale = training_size.Scale(device="cpu", instances=1, processes_per_instance=1)
    checkpoints: bool = False
    load: hours.Work | None = None  # how much there is to train: for its price

    @property
    def name(self) -> str:
        parts = [self.recipe_digest, self.code_digest, self.data_digest, self.base_model, self.base_model_digest]
        parts += [part for part in (self.period, self.sweep) if part]
        return f"{'sweep' if self.sweep else 'train'}-{self.recipe.replace('_', '-')}-{digests.of_values(*parts)[:12]}"


def plan(
    recipe: str,
    dataset: "Dataset",
    base: records.Model | None,
    period: str = "",
    *,
    uploaded: bool = True,
    search: str = "",
) -> Plan:
    """Digest the inputs of a job. Raises InvalidInput for a recipe or data set that cannot be trained on."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,40}", period):
        raise InvalidInput(f"--period must be a short name such as 2026-Q4, not {period[:60]!r}.")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", recipe):
        raise InvalidInput(f"--recipe takes the name of a file in {CODE}/recipes without .yaml, not {recipe[:60]!r}.")
    path = CODE / "recipes" / f"{recipe}.yaml"
    tried = sweep.load(search) if search else None
    for changes in [[], *(tried.changes() if tried else [])]:
        check_recipe(path, changes)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
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
        # The base model that the recipe names has its pinned revision there, and so in the recipe's digest.
        base_model=f"azureml:{base.name}:{base.version}" if base else str(content["base_model"]["source"]),
        base_model_digest=base.digest if base else "",
        base=base_of(content),
        period=period,
        sweep=search,
        scale=training_size.Scale(**{key: content["scale"][key] for key in training_size.Scale.model_fields}),
        checkpoints=bool(content["run"]["checkpoint_every"]),
        load=load(recipe, content, dataset, tried),
    )


def base_of(recipe: dict[str, Any]) -> str:
    """What a recipe starts from: "SOURCE REVISION"."""
    base = recipe["base_model"]
    return f"{base['source']} {base.get('revision') or ''}".strip()


def load(recipe: str, content: dict[str, Any], dataset: "Dataset", tried: sweep.Sweep | None) -> hours.Work:
    """How much a recipe trains on a data set, in all epochs and, of a search, in all trials."""
    rows = dataset.files["train"]
    epochs = [int(each) for each in tried.search["run.epochs"].ends()] if tried and "run.epochs" in tried.search else []
    trials = tried.trials if tried else 1
    return hours.work(recipe, content, rows.tokens, rows.rows, trials=trials, epochs=max(epochs, default=0))


def check_recipe(path: Path, changes: list[str] | None = None) -> None:
    """Let the training code itself judge the recipe, with some values changed, before a GPU is paid for."""
    sets = [word for change in changes or [] for word in ("--set", change)]
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


class Waiting(records.Record):
    """What `train` leaves when the wait is over before the job is: the name by which the next run attaches."""

    job_name: str
    status: str
    studio_url: str


def train(
    settings: Settings,
    work: Plan,
    *,
    commit: str = "",
    retry_failed: bool = False,
    wait_seconds: float | None = None,
    max_cost: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> records.Training | Waiting:
    """Submit or attach, wait until the job has ended (at most `wait_seconds`), and read what it measured.

    `commit` is kept on a new job, so that a later run can go on from it. Raises Refused before anything is uploaded for
    a new job that may cost more than the cap, AzureFailed when the job failed or was cancelled, InvalidInput when its
    measurements are missing or broken.
    """
    training_size.check(settings.compute.size, settings.compute.max_instances, work.recipe, work.scale)
    ml = azure_ml.client(settings)
    started = time.monotonic()

    def affordable() -> dict[str, str]:
        """Asked when there is no job to attach to: a job that is there is not paid for again."""
        table = prices.load()
        asked = runs.forecast(settings, work, table, ml=ml)
        tell(f"Its cost: {asked.said}{f'. {asked.rate.warning}' if asked.rate.warning else ''}")
        tell(f"A rollout of its model: {runs.rollout(settings, table).said}")
        estimate.check(estimate.lowest(max_cost, settings.max_training_cost), asked)
        return runs.submitted(work, settings.compute.size, asked)

    with azure_ml.explained(f"Training job {work.name}"):
        until = None if wait_seconds is None else started + wait_seconds
        again = retry_failed
        while True:
            job, attached = submit_or_attach(ml, settings, work, affordable, commit=commit, retry_failed=again)
            if until is not None:
                job = wait(ml, job, until - time.monotonic())
                if status(job) not in ENDED:
                    return Waiting(job_name=str(job.name), status=status(job), studio_url=str(job.studio_url))
            said = "" if status(job) == "Completed" else follow(ml, str(job.name))
            job = ml.jobs.get(job.name)
            if status(job) == "Completed":
                break
            step = resubmit.goes_on(settings, work, status(job), job.tags or {})
            if step is None:
                report_failure(ml, job)
                raise AzureFailed(f"Training job {job.name} ended as {status(job)}{said}; its log: {job.studio_url}.")
            tell(f"{job.name} ended as {status(job)} with step {step} kept: the next try goes on from there")
            again = False
        name = sweep.best_trial(job) if work.sweep else str(job.name)
        metrics = measured(ml, name)
        cost = runs.settle(ml, settings, work, job, metrics)
    if work.base_model_digest not in ("", metrics.base_model_digest):
        raise InvalidInput(
            f"Training job {job.name} started from model {metrics.base_model_digest[:12]}, "
            f"not from {work.base_model} ({work.base_model_digest[:12]}): its model cannot be trusted."
        )
    return records.Training(
        job_name=name,
        status=status(job),
        attached=attached,
        recipe=records.Recipe(name=work.recipe, digest=work.recipe_digest),
        code_digest=work.code_digest,
        data_digest=work.data_digest,
        base_model=work.base_model,
        base_model_digest=metrics.base_model_digest,
        compute=settings.compute.size,
        studio_url=str(job.studio_url),
        model_output=f"azureml://jobs/{name}/outputs/model",
        model_digest=metrics.model_digest,
        seconds=round(time.monotonic() - started, 1),
        metrics=metrics,
        cost=cost,
    )
