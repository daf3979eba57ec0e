"""`register`: make a model version of a folder or a job's output; its version is its digest, so equal ones are one."""

from pathlib import Path

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, digests, records
from scripts.errors import InvalidInput, Refused
from scripts.settings import Settings

KINDS: dict[records.Artifact, str] = {"mlflow": "mlflow_model"}  # Azure serves this one without any code


def register_folder(settings: Settings, folder: Path, name: str) -> records.Model:
    """Register a model from a local folder of transformers files, or one with `base` and `adapter` in it."""
    if (folder / "base" / "config.json").is_file() and (folder / "adapter" / "adapter_config.json").is_file():
        artifact: records.Artifact = "lora"
    elif (folder / "converted.json").is_file():  # convert/ leaves it
        artifact = "onnx"
    elif (folder / "MLmodel").is_file():
        artifact = "mlflow"
    elif (folder / "config.json").is_file():
        artifact = "merged"
    else:
        raise InvalidInput(f"{folder}: this is not a model folder (no config.json in it).")
    return register(settings, name, str(folder), digests.of_folder(folder), records.Lineage(), artifact)


def register_job(
    settings: Settings, training: records.Training, artifact: records.Artifact = "merged"
) -> records.Model:
    """Register what a training job wrote, with the digests of everything it was made from.

    Raises Refused where the settings serve a model in MLflow's form and this is none.
    """
    if settings.serving.artifact == "mlflow" != artifact:
        raise Refused(
            f"Training job {training.job_name} left no model in MLflow's form, and serving.tier "
            f"{settings.serving.tier} serves no other: train by a recipe of route registry, or choose another tier."
        )
    lineage = records.Lineage(
        data=training.data_digest,
        code=training.code_digest,
        recipe=training.recipe.digest,
        job=training.job_name,
        route="" if training.route == "job" else training.route,
    )
    return register(settings, settings.model, training.model_output, training.model_digest, lineage, artifact)


def register(
    settings: Settings,
    name: str,
    path: str,
    digest: str,
    lineage: records.Lineage,
    artifact: records.Artifact = "merged",
) -> records.Model:
    """Make the version that `digest` names of the files at `path`, unless it is there already. Raises AzureFailed."""
    from azure.ai.ml.entities import Model

    ml = azure_ml.client(settings)
    version = digest[:12]
    tags = {"digest": digest, **{key: value for key, value in lineage.model_dump().items() if value}}
    tags |= {} if artifact == "merged" else {"artifact": artifact}
    what = f"model {name}:{version}"
    with azure_ml.explained(f"Registering {what}"), azure_ml.waiting(f"Registering {what}"):
        try:
            model: Model = ml.models.get(name, version)
        except ResourceNotFoundError:
            model = ml.models.create_or_update(
                Model(name=name, version=version, path=path, type=KINDS.get(artifact, "custom_model"), tags=tags)
            )
    return records.Model(
        name=name,
        version=version,
        id=str(model.id),
        digest=digest,
        path=str(model.path),
        lineage=lineage,
        artifact=artifact,
    )
