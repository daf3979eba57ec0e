"""`train`: submit the fine-tune once and wait. A job is named by what goes into it, so a second run attaches."""

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field

from scripts import azure_ml, digests, records, resubmit, routes, sweep, training_size
from scripts.cost import estimate, hours, prices, runs
from scripts.errors import AzureFailed, InvalidInput
from scripts.settings import Settings
from scripts.training_job import CODE, ENDED, follow, report_failure, status, submit_or_attach, tags, wait

if TYPE_CHECKING:
    from data.manifest import Dataset


class Size(records.Part):
    rows: int
    tokens: int


class Plan(records.Record):
    """All that determines the result of a training job. `name` is a function of the rest."""

    route: str = routes.DEFAULT
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
    rows: Size | None = None  # of the training split, from which that was reckoned
    settled: dict[str, Any] = Field(default_factory=dict)  # what a managed route asks for, once Azure was asked

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
    named = routes.of_recipe(path)
    route = routes.named(named)
    if named != routes.DEFAULT and (search or base):
        option = "--sweep" if search else "--base-model"
        raise InvalidInput(f"{option} is for recipes of route job, and recipe {recipe} has route {named}.")
    tried = sweep.load(search) if search else None
    for changes in [[], *(tried.changes() if tried else [])]:
        route.check(path, changes)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if uploaded and not dataset.asset:
        raise InvalidInput(
            f"Data set {dataset.name} was checked but not uploaded: run `python -m scripts data` without --check-only."
        )
    parts = route.parts(recipe, content, dataset, tried)
    if base:
        parts |= {"base_model": f"azureml:{base.name}:{base.version}", "base_model_digest": base.digest}
    return Plan(
        route=named,
        recipe=recipe,
        recipe_digest=digests.of_file(path),
        data_digest=dataset.digest,
        data_asset=dataset.asset or "",
        rows=Size(rows=dataset.files["train"].rows, tokens=dataset.files["train"].tokens),
        base=base_of(content),
        period=period,
        sweep=search,
        **{"base_model_digest": "", **parts},
    )


def base_of(recipe: dict[str, Any]) -> str:
    """What a recipe starts from: "SOURCE REVISION"."""
    base = recipe["base_model"]
    return f"{base['source']} {base.get('revision') or ''}".strip()


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
    route, started = routes.named(work.route), time.monotonic()
    ml = azure_ml.client(settings)
    work = route.ready(settings, ml, work, tell)

    def affordable() -> dict[str, str]:
        """Asked when there is no job to attach to: a job that is there is not paid for again."""
        table = prices.load()
        asked = route.forecast(settings, work, table, ml=ml)
        tell(f"Its cost: {asked.said}{f'. {asked.rate.warning}' if asked.rate.warning else ''}")
        if route.where(settings) == settings.compute.size:  # else the service serves it, and there is no second colour
            tell(f"A rollout of its model: {runs.rollout(settings, table).said}")
        estimate.check(estimate.lowest(max_cost, settings.max_training_cost), asked)
        return {**tags(work, commit), **runs.submitted(work, route.where(settings), asked)}

    with azure_ml.explained(f"Training job {work.name}"):
        until = None if wait_seconds is None else started + wait_seconds
        again = retry_failed
        while True:
            job, attached = submit_or_attach(ml, settings, work, route.entity, affordable, retry_failed=again)
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
                said = f": {why}" if (why := route.why(ml, str(job.name))) else said
                raise AzureFailed(f"Training job {job.name} ended as {status(job)}{said}; its log: {job.studio_url}.")
            tell(f"{job.name} ended as {status(job)} with step {step} kept: the next try goes on from there")
            again = False
        name = sweep.best_trial(job) if work.sweep else str(job.name)
        metrics = route.measured(settings, ml, work, name)
        cost = route.settle(ml, settings, work, job, metrics)
    if work.base_model_digest not in ("", metrics.base_model_digest):
        raise InvalidInput(
            f"Training job {job.name} started from model {metrics.base_model_digest[:12]}, "
            f"not from {work.base_model} ({work.base_model_digest[:12]}): its model cannot be trusted."
        )
    return records.Training(
        route=work.route,
        job_name=name,
        status=status(job),
        attached=attached,
        recipe=records.Recipe(name=work.recipe, digest=work.recipe_digest),
        code_digest=work.code_digest,
        data_digest=work.data_digest,
        base_model=work.base_model,
        base_model_digest=metrics.base_model_digest,
        compute=route.where(settings),
        studio_url=str(job.studio_url),
        model_output=route.output(name),
        model_digest=metrics.model_digest,
        seconds=round(time.monotonic() - started, 1),
        metrics=metrics,
        cost=cost,
    )
