"""What a pipeline of `route: registry` measured and left, or why it failed."""

from typing import TYPE_CHECKING

from scripts import azure_ml, digests, records, storage, training_job
from scripts.errors import InvalidInput
from scripts.routes import tracked
from scripts.routes.registry_pipeline import SERVED
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from scripts.train import Plan


def why(ml: "MLClient", name: str) -> str:
    """The first failed step's own words; the pipeline itself only says which step it was."""
    for step in ml.jobs.list(parent_job_name=name):
        if step is None or training_job.status(step) != "Failed":
            continue
        if inner := why(ml, str(step.name)):  # on Azure the component's steps are one level further down
            return inner
        error = ml.jobs._runs_operations.get_run(str(step.name)).error
        said = str(error.error.message) if error and error.error and error.error.message else "it left no reason"
        return f"{step.display_name}: {said.splitlines()[0].rstrip('.')}"
    return ""


def measured(settings: Settings, ml: "MLClient", work: "Plan", name: str) -> records.TrainingMetrics:
    """What the pipeline's steps logged, and a digest of the model's files as the storage describes them."""
    with azure_ml.explained(f"Reading what {name} measured"), azure_ml.waiting(f"Reading what {name} measured"):
        runs_of = tracked.Tracked(ml)
        all_runs = {run: runs_of.last(run) for run in runs_of.of_job(name)}
        run = next((run for run, values in all_runs.items() if "eval_loss" in values), name)
        values = all_runs[run]
        eval_loss = tracked.number(name, values, ("eval_loss",))
        seconds = tracked.number(name, values, ("train_runtime",))
        curve = runs_of.history(run, "loss") or runs_of.history(run, "train_loss")
        if not curve or seconds <= 0:
            raise InvalidInput(f"Training job {name} logged no loss: its model cannot be registered.")
        digest = _digest(settings, ml, name)
    tokens = work.load.tokens if work.load else 0
    perplexity = next((found["perplexity"] for found in all_runs.values() if "perplexity" in found), None)
    return records.TrainingMetrics(
        loss=[records.LossPoint(step=point.step, loss=point.value) for point in curve],
        eval_loss=eval_loss,
        tokens_per_second=tokens / seconds,
        train_seconds=seconds,
        eval_seconds=values.get("eval_runtime", 0.0),
        trained_tokens=tokens,
        peak_memory_mb=None,
        steps=max(curve[-1].step, *(point.step for point in runs_of.history(run, "eval_loss"))),
        model_digest=digest,
        base_model_digest=digests.of_values(work.base_model),
        perplexity=perplexity,
        processes=work.scale.instances * work.scale.processes_per_instance,
    )


def _digest(settings: Settings, ml: "MLClient", job: str) -> str:
    """Over name, size and MD5 (where the storage has none: ETag) of every file: nothing of gigabytes is downloaded."""
    uri = ml.jobs._get_named_output_uri(job, SERVED).get(SERVED, "")
    prefix = uri.partition("/paths/")[2].strip("/")
    if not prefix or f"/datastores/{storage.DATASTORE}/" not in uri:
        raise InvalidInput(f"Training job {job} left no {SERVED}: its model cannot be registered.")
    files = []
    for blob in storage.container(settings).list_blobs(name_starts_with=f"{prefix}/"):
        md5 = blob.content_settings.content_md5 if blob.content_settings else None
        files.append(f"{blob.name[len(prefix) + 1 :]}:{blob.size}:{bytes(md5).hex() if md5 else blob.etag}")
    if not any(each.rpartition("/")[2].startswith("config.json:") for each in files):
        raise InvalidInput(f"Training job {job} left no config.json in {SERVED}: its model cannot be served.")
    return digests.of_values(*sorted(files))
