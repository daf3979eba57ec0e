"""`route: registry`: the registry's `chat_completion_pipeline` fine-tunes a model of the registry on our cluster."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from scripts import azure_ml, digests, records, retired, storage, training_job, training_size
from scripts import register as registering
from scripts.cost import estimate, hours, prices, runs
from scripts.errors import AzureFailed, InvalidInput
from scripts.provision import place, workplace
from scripts.routes import recipes, registry_rules, tracked
from scripts.routes.registry_recipe import Recipe, sent
from scripts.settings import Settings
from scripts.training_job import CODE

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

    from data.manifest import Dataset
    from scripts.sweep import Sweep
    from scripts.train import Plan

MODEL = "azureml://registries/{registry}/models/{name}/{which}"
# The pipeline's outputs, and those of the component that go there. `trained_model` is the documents' own; our serving
# code loads the folder of the other one: in MLflow's form a model and its tokenizer are apart.
OUTPUTS = {"trained_model": "mlflow_model_folder", "pytorch_model": "pytorch_model_folder"}
SERVED = "pytorch_model"
STEPS = ("compute_model_import", "compute_preprocess", "compute_finetune", "compute_model_evaluation")


class Settled(records.Part):
    """What a submit asks of Azure, once nothing in it is `latest` any more. Digested into the job's name."""

    model: str  # ids in the registry
    component: str
    display_name: str
    gpus: int
    parameters: dict[str, str | int | float]


def check(path: Path, changes: Sequence[str] = ()) -> None:
    retired.check_model(recipes.load(Recipe, path, changes).base_model.source)


def parts(recipe: str, content: dict[str, Any], dataset: "Dataset", _tried: "Sweep | None") -> dict[str, Any]:
    """No code of ours trains: what stands for it is the component, which the recipe names."""
    asked = Recipe.model_validate(content)
    source, version = asked.base_model.source, asked.base_model.revision
    which = f"labels/{version}" if version == "latest" else f"versions/{version}"
    component = f"{asked.registry}/{asked.component.name}/{asked.component.version}"
    many = asked.optimisation.number_of_gpu_to_use_finetuning or 1
    nodes = asked.optimisation.num_nodes_finetune
    return {
        "code_digest": digests.of_values(component),
        "base_model": MODEL.format(registry=asked.registry, name=source, which=which),
        "scale": training_size.Scale(device="gpu", instances=nodes, processes_per_instance=many),
        "load": load(
            recipe, asked, asked.parameters(), dataset.files["train"].tokens, dataset.files["train"].rows, many
        ),
    }


def load(recipe: str, asked: Recipe, parameters: Mapping[str, Any], tokens: int, rows: int, gpus: int) -> hours.Work:
    """How much there is to train. `tokens` and `rows` are those of the training split."""
    most, nodes = int(parameters.get("max_steps", -1)), int(parameters.get("num_nodes_finetune", 1))
    a_step = int(parameters.get("per_device_train_batch_size", 1)) * int(
        parameters.get("gradient_accumulation_steps", 1)
    )
    wanted = int(most * a_step * gpus * nodes * tokens / rows) if most > 0 else 0
    return hours.Work(
        recipe=recipe,
        base=f"microsoft/{asked.base_model.source}",
        adapters=str(parameters.get("apply_lora", "false")) == "true",
        device="gpu",
        instances=nodes,
        processes=gpus,
        tokens=wanted or tokens * int(parameters.get("num_train_epochs", 1)),
    )


def where(settings: Settings) -> str:
    return settings.compute.size


def ready(settings: Settings, ml: "MLClient", work: "Plan", tell: Callable[[str], None]) -> "Plan":
    """Ask the registry and the cluster; what the documents check, in their order. Makes nothing."""
    if work.settled:
        return work
    asked = recipes.load(Recipe, CODE / "recipes" / f"{work.recipe}.yaml")
    model, component = _model(asked), _component(asked)
    name, tags = str(model.name), dict(model.tags or {})
    retired.check_tags(name, tags)
    size, limit = _cluster(settings, ml)
    retired.check_size("compute.size", size)
    registry_rules.check_size(name, tags, size)
    with azure_ml.explained("Reading the sizes of Azure ML"):
        known = [(str(each.name), int(each.gpus or 0)) for each in ml.compute.list_sizes(location=settings.location)]
    gpus = registry_rules.gpus(size, known, asked.optimisation.number_of_gpu_to_use_finetuning)
    defaults = registry_rules.literal(name, tags, registry_rules.DEFAULTS, dict) or {}
    defaults = {key: sent(value) for key, value in defaults.items()}
    parameters, told = registry_rules.merged(asked.parameters(), defaults, component.inputs)
    for sentence in told:
        tell(sentence)
    parameters |= {"number_of_gpu_to_use_finetuning": gpus}
    nodes = int(parameters["num_nodes_finetune"])
    scale = training_size.Scale(device="gpu", instances=nodes, processes_per_instance=gpus)
    training_size.check(size, limit, work.recipe, scale)
    tokens, rows = (work.rows.tokens, work.rows.rows) if work.rows else (0, 1)
    settled = Settled(
        model=str(model.id),
        component=str(component.id),
        display_name=registry_rules.display_name(name, settings.dataset, parameters, gpus),
        gpus=gpus,
        parameters=parameters,
    )
    changed = {
        "code_digest": digests.of_values(settled.model_dump_json(exclude={"display_name"})),
        "base_model": settled.model,
        "scale": scale,
        "load": load(work.recipe, asked, parameters, tokens, rows, gpus) if work.rows else work.load,
        "settled": settled.model_dump(),
    }
    return work.model_copy(update=changed)


def _registry(name: str) -> "MLClient":
    from azure.ai.ml import MLClient

    return MLClient(azure_ml.credential(), registry_name=name, enable_telemetry=False, show_progress=False)


def _model(asked: Recipe) -> Any:
    """Raises InvalidInput for a model or version that the registry does not have."""
    named, version = asked.base_model.source, asked.base_model.revision
    which = {"label": "latest"} if version == "latest" else {"version": version}
    return _of_registry(asked.registry, "model", named, version, lambda found: found.models.get(named, **which))


def _component(asked: Recipe) -> Any:
    named, version = asked.component.name, asked.component.version
    which = {"label": "latest"} if version == "latest" else {"version": version}
    return _of_registry(asked.registry, "component", named, version, lambda found: found.components.get(named, **which))


def _of_registry(registry: str, kind: str, name: str, version: str, ask: Callable[["MLClient"], Any]) -> Any:
    with azure_ml.explained(f"Reading {kind} {name} of registry {registry}"):
        try:
            return ask(_registry(registry))
        except HttpResponseError as error:  # by its label, what is not there is no ResourceNotFoundError
            if error.status_code != 404:
                raise
            raise InvalidInput(
                f"Registry {registry} has no {kind} {name} with version {version}: look it up in the model catalogue "
                "of Azure ML studio, and mend the recipe."
            ) from None


def _cluster(settings: Settings, ml: "MLClient") -> tuple[str, int]:
    """Size and most instances of the cluster; of one that is not there yet, as it will be made.

    Raises AzureFailed for one whose provisioning has failed.
    """
    with azure_ml.explained(f"Reading cluster {settings.compute.name}"):
        try:
            found = ml.compute.get(settings.compute.name)
        except ResourceNotFoundError:
            return settings.compute.size, settings.compute.max_instances
    if str(found.provisioning_state).lower() == "failed":
        raise AzureFailed(
            f"The provisioning of cluster {settings.compute.name} failed: delete it, or name another in compute.name, "
            "and run `provision`."
        )
    return str(getattr(found, "size", None) or settings.compute.size), int(getattr(found, "max_instances", None) or 1)


def forecast(settings: Settings, work: "Plan", table: prices.Table, *, ml: "MLClient | None") -> estimate.Estimate:
    """The cluster's hours at their price; with `ml`, of the parameters as the model's defaults leave them."""
    return runs.forecast(settings, ready(settings, ml, work, lambda _: None) if ml else work, table, ml=ml)


def entity(ml: "MLClient", settings: Settings, work: "Plan", name: str, tags: Mapping[str, str]) -> "Job":
    """The pipeline of one node, the component. A cluster that is missing is made first."""
    from azure.ai.ml import Input
    from azure.ai.ml.dsl import pipeline

    settled = Settled.model_validate(work.settled)
    asked = recipes.load(Recipe, CODE / "recipes" / f"{work.recipe}.yaml")
    component = _component(
        asked.model_copy(
            update={"component": asked.component.model_copy(update={"version": _version(settled.component)})}
        )
    )
    _make_cluster(settings, ml)
    folder = _data_folder(ml, work.data_asset)
    inputs: dict[str, Any] = {
        "mlflow_model_path": Input(type="mlflow_model", path=settled.model),
        **{
            f"{split}_file_path": Input(type="uri_file", path=f"{folder}/{split}.jsonl")
            for split in ("train", "validation")
        },
        **dict.fromkeys(STEPS, settings.compute.name),
        **settled.parameters,
    }

    @pipeline(name=name)
    def create_pipeline() -> dict[str, Any]:
        node = component(**inputs)
        return {output: getattr(node.outputs, source) for output, source in OUTPUTS.items()}

    job: Job = create_pipeline()
    job.name, job.display_name = name, settled.display_name
    job.experiment_name, job.tags = settings.experiment, dict(tags)
    job.settings.force_rerun = asked.force_rerun
    job.settings.continue_on_step_failure = False
    return job


def _version(asset: str) -> str:
    return asset.rstrip("/").rpartition("/versions/")[2]


def _make_cluster(settings: Settings, ml: "MLClient") -> None:
    cluster = workplace.cluster(place.Place(settings))
    what = f"Making cluster {settings.compute.name}"
    with azure_ml.explained(what), azure_ml.waiting(what):
        if cluster.found() is None:
            cluster.create()
    _cluster(settings, ml)


def _data_folder(ml: "MLClient", asset: str) -> str:
    """Where the files of the data set lie: the component takes files, and our data set is a folder of them."""
    _, name, version = asset.split(":")
    with azure_ml.explained(f"Reading data set {asset}"):
        return str(ml.data.get(name, version).path).rstrip("/")


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


settle = runs.settle


def output(name: str) -> str:
    return f"azureml://jobs/{name}/outputs/{SERVED}"


def register(settings: Settings, training: records.Training) -> records.Model:
    return registering.register_job(settings, training)
