"""`route: registry`: the registry's `chat_completion_pipeline` fine-tunes a model of the registry on our cluster."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts import digests, records, retired, training_size
from scripts import register as registering
from scripts.cost import estimate, hours, prices, runs
from scripts.routes import recipes, registry_asked, registry_measured, registry_pipeline, registry_rules
from scripts.routes.registry_recipe import Recipe, sent
from scripts.settings import Settings
from scripts.training_job import CODE

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from data.manifest import Dataset
    from scripts.sweep import Sweep
    from scripts.train import Plan

MODEL = "azureml://registries/{registry}/models/{name}/{which}"
settle = runs.settle  # the cluster's hours at their price
entity, measured, why = registry_pipeline.entity, registry_measured.measured, registry_measured.why


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
    model, component = registry_asked.model(asked), registry_asked.component(asked)
    name, tags = str(model.name), dict(model.tags or {})
    retired.check_tags(name, tags)
    size, limit = registry_asked.cluster(settings, ml)
    retired.check_size("compute.size", size)
    registry_rules.check_size(name, tags, size)
    known = registry_asked.sizes(settings, ml, tell)
    gpus = registry_rules.gpus(size, known, asked.optimisation.number_of_gpu_to_use_finetuning)
    defaults = registry_rules.literal(name, tags, registry_rules.DEFAULTS, dict) or {}
    defaults = {key: sent(value) for key, value in defaults.items()}
    parameters, told = registry_rules.merged(asked.parameters(), defaults, component.inputs)
    for sentence in told:
        tell(sentence)
    parameters |= {"number_of_gpu_to_use_finetuning": gpus}
    nodes = int(parameters["num_nodes_finetune"])
    scale = training_size.Scale(device="gpu", instances=nodes, processes_per_instance=gpus)
    registry_rules.check_nodes(nodes, limit)
    tokens, rows = (work.rows.tokens, work.rows.rows) if work.rows else (0, 1)
    settled = registry_asked.Settled(
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


def forecast(settings: Settings, work: "Plan", table: prices.Table, *, ml: "MLClient | None") -> estimate.Estimate:
    """The cluster's hours at their price; with `ml`, of the parameters as the model's defaults leave them."""
    return runs.forecast(settings, ready(settings, ml, work, lambda _: None) if ml else work, table, ml=ml)


def output(name: str) -> str:
    return f"azureml://jobs/{name}/outputs/{registry_pipeline.SERVED}"


def register(settings: Settings, training: records.Training) -> records.Model:
    """The output that the settings serve: the folder of weights, or the same model in MLflow's form.

    The second one's digest is of the first one's and its form. The files themselves cannot be asked for: azure-ai-ml
    1.35 fails with a TypeError of its own when it is to say where a job left an output of type mlflow_model.
    """
    if settings.serving.artifact != "mlflow":
        return registering.register_job(settings, training)
    changed = {
        "model_output": f"azureml://jobs/{training.job_name}/outputs/{registry_pipeline.NO_CODE}",
        "model_digest": digests.of_values(training.model_digest, registry_pipeline.NO_CODE),
    }
    return registering.register_job(settings, training.model_copy(update=changed), "mlflow")
