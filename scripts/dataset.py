"""`data`: check, split, digest and upload the training set. Equal data is uploaded once."""

from pathlib import Path
from typing import TYPE_CHECKING

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml
from scripts.settings import Settings

if TYPE_CHECKING:
    from data.manifest import Dataset


def upload(settings: Settings, dataset: "Dataset", folder: Path) -> "Dataset":
    """Make `folder` the data asset NAME:VERSION (version = content digest) unless that version is already there."""
    from azure.ai.ml.entities import Data

    ml = azure_ml.client(settings)
    what = f"data asset {dataset.name}:{dataset.version}"
    with azure_ml.explained(f"Uploading {what}"), azure_ml.waiting(f"Uploading {what}"):
        try:
            ml.data.get(dataset.name, dataset.version)
        except ResourceNotFoundError:
            ml.data.create_or_update(
                Data(
                    name=dataset.name,
                    version=dataset.version,
                    path=str(folder),
                    type="uri_folder",
                    tags=tags(dataset),
                )
            )
    return dataset.model_copy(update={"asset": f"azureml:{dataset.name}:{dataset.version}"})


def tags(dataset: "Dataset") -> dict[str, str]:
    """What the asset says of itself, so that `retrain-decision` can tell how much of later data is new."""
    rows, train_rows = learned_rows(dataset), dataset.files["train"].rows
    return {"digest": dataset.digest, "rows": str(rows), "train_rows": str(train_rows)}


def learned_rows(dataset: "Dataset") -> int:
    """What a job learns from and is validated on. The gate's prompts never travel with it."""
    return dataset.files["train"].rows + dataset.files["validation"].rows
