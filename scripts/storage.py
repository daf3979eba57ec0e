"""The workspace's own storage, for the small documents that must outlive a runner: rollouts' states, verdicts given."""

from typing import TYPE_CHECKING

from scripts import azure_ml
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

DATASTORE = "workspaceblobstore"


def container(settings: Settings) -> "ContainerClient":
    """Its container, signed in as ourselves: no account key is asked for. Raises AzureFailed."""
    from azure.storage.blob import ContainerClient

    with azure_ml.explained(f"Finding the storage of workspace {settings.workspace}"):
        place = azure_ml.client(settings).datastores.get(DATASTORE)
    url = f"{place.protocol}://{place.account_name}.blob.{place.endpoint}"
    return ContainerClient(url, str(place.container_name), credential=azure_ml.credential())
