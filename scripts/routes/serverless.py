"""`route: serverless`: Foundry's fine-tuning as a service. No machine of ours, and weights that nobody sees.

Because the weights stay with the service, a model's digest is that of its identity (workspace, job, version): a job's
model never changes, and a job is named by the digests of all that goes into it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, digests, records
from scripts.cost import hours, runs
from scripts.errors import InvalidInput
from scripts.routes import serverless_cost, serverless_data, serverless_recipe, tracked
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

    from data.manifest import Dataset
    from scripts.sweep import Sweep
    from scripts.train import Plan

API = "create_finetuning_job/2024-10-01-preview"  # what stands for our code in the job's name
forecast, settle = serverless_cost.forecast, serverless_cost.settle
VERSION = "1"  # a job's name is new, and so is its model's
# What we call it, and what the service and the libraries below it may call it.
NAMES = {
    "loss": ("train_loss", "loss"),
    "eval_loss": ("valid_loss", "full_valid_loss", "eval_loss"),
    "token_accuracy": ("valid_mean_token_accuracy", "full_valid_mean_token_accuracy", "eval_mean_token_accuracy"),
}


def workspace_id(settings: Settings) -> str:
    return (
        f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{settings.workspace}"
    )


def check(path: Path, changes: Sequence[str] = ()) -> None:
    serverless_recipe.load(path, changes)


def parts(recipe: str, content: dict[str, Any], dataset: "Dataset", _tried: "Sweep | None") -> dict[str, Any]:
    asked = serverless_recipe.Recipe.model_validate(content)
    tokens = dataset.files["train"].tokens * asked.hyperparameters.epochs
    return {
        "code_digest": digests.of_values(API),
        "base_model": asked.model,
        "load": hours.Work(
            recipe=recipe,
            base=f"microsoft/{asked.base_model.source}",
            adapters=True,
            device="service",
            instances=1,
            processes=1,
            tokens=tokens,
        ),
    }


def where(_settings: Settings) -> str:
    return "the service"


def ready(settings: Settings, _ml: "MLClient", work: "Plan", tell: Callable[[str], None]) -> "Plan":
    """Refuses what is not offered in the region; `latest` becomes a version."""
    serverless_recipe.offer(work.base_model, settings.location, "fine_tune")
    source, _, version = work.base_model.rpartition("/versions/")
    if version != "latest":
        return work
    named = serverless_recipe.CATALOGUE.match(source)
    assert named is not None  # noqa: S101 (offer has read it)
    with azure_ml.explained(f"Looking for the latest version of {named['name']}"):
        from azure.ai.ml import MLClient

        catalogue = MLClient(azure_ml.credential(), registry_name=named["registry"], enable_telemetry=False)
        found = str(catalogue.models.get(named["name"], label="latest").version)
    tell(f"{named['name']}: latest is version {found}")
    return work.model_copy(update={"base_model": f"{source}/versions/{found}"})


def entity(ml: "MLClient", settings: Settings, work: "Plan", name: str, tags: Mapping[str, str]) -> "Job":
    """As Microsoft's samples make it: strings for model and data, both splits, a name for the model."""
    from azure.ai.ml.finetuning import FineTuningTaskType, create_finetuning_job

    recipe = serverless_recipe.of_name(work.recipe)
    train, validation = serverless_data.uploaded(ml, work.data_asset)
    return create_finetuning_job(
        task=FineTuningTaskType.CHAT_COMPLETION,
        training_data=train,
        validation_data=validation,
        hyperparameters=recipe.hyperparameters.wire(),
        model=work.base_model,
        name=name,
        display_name=name,
        experiment_name=settings.experiment,
        tags=dict(tags),
        output_model_name_prefix=name,
    )


def digest(settings: Settings, job: str) -> str:
    return digests.of_values("serverless", workspace_id(settings).lower(), job, VERSION)


def why(_ml: "MLClient", _name: str) -> str:
    """The job itself says it, in what `train` reads of every job."""
    return ""


def measured(settings: Settings, ml: "MLClient", work: "Plan", name: str) -> records.TrainingMetrics:
    """What the service tells in the job's run; what it does not is None."""
    try:
        ml.models.get(name, VERSION)
    except ResourceNotFoundError:
        raise InvalidInput(f"Training job {name} registered no model {name}:{VERSION}.") from None
    started, ended = runs.ran(ml, name)
    with azure_ml.explained(f"Reading what {name} measured"), azure_ml.waiting(f"Reading what {name} measured"):
        run = tracked.Tracked(ml)
        last = run.last(name)
        curve = run.history(name, next((each for each in NAMES["loss"] if each in last), NAMES["loss"][0]))
    return metrics(name, curve, last, digest(settings, name), digests.of_values(work.base_model)).model_copy(
        update={"train_seconds": (ended - started).total_seconds() if started and ended else None}
    )


def metrics(
    job: str, curve: Sequence[tracked.Point], last: Mapping[str, float], model_digest: str, base_digest: str
) -> records.TrainingMetrics:
    """Raises InvalidInput for a job without a training and a validation loss that are numbers."""
    for step, value in curve:
        tracked.number(job, {f"train_loss at step {step}": value}, [f"train_loss at step {step}"])
    tracked.number(job, dict(last) if curve else {}, NAMES["loss"])
    accuracy = next((last[each] for each in NAMES["token_accuracy"] if each in last), None)
    return records.TrainingMetrics(
        loss=[records.LossPoint(step=step, loss=value) for step, value in curve],
        eval_loss=tracked.number(job, dict(last), NAMES["eval_loss"]),
        token_accuracy=accuracy if accuracy is not None and 0 <= accuracy <= 1 else None,
        steps=curve[-1].step,
        model_digest=model_digest,
        base_model_digest=base_digest,
        tokens_per_second=None,
        train_seconds=None,
        eval_seconds=None,
        trained_tokens=None,
        peak_memory_mb=None,
        device="the service's",
    )


def output(name: str) -> str:
    return f"azureml:{name}:{VERSION}"


def register(settings: Settings, training: records.Training) -> records.Model:
    """The service has registered it already: it gets its digest and its lineage as tags, as every model of ours."""
    ml, (_, name, version) = azure_ml.client(settings), training.model_output.split(":")
    lineage = records.Lineage(
        data=training.data_digest,
        code=training.code_digest,
        recipe=training.recipe.digest,
        job=training.job_name,
        route="serverless",
    )
    wanted = {"digest": training.model_digest, **{key: value for key, value in lineage.model_dump().items() if value}}
    with azure_ml.explained(f"Tagging model {name}:{version}"):
        found = ml.models.get(name, version)
        if not wanted.items() <= (found.tags or {}).items():
            found.tags = {**(found.tags or {}), **wanted}
            found = ml.models.create_or_update(found)
    return records.Model(
        name=name,
        version=version,
        id=str(found.id),
        digest=training.model_digest,
        path=str(found.path),
        lineage=lineage,
    )
