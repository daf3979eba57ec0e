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
                    tags={"digest": dataset.digest},
                )
            )
    return dataset.model_copy(update={"asset": f"azureml:{dataset.name}:{dataset.version}"})
