"""The record of which serverless endpoint users are led to: a blob in the workspace's own storage.

Each write names the version that it replaces (If-Match), so of two moves only one happens.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from scripts import azure_ml, records, storage
from scripts.errors import AzureFailed
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient

PLACE = "serverless/{application}.json"


class Side(records.Part):
    """An endpoint, its address and the model behind it."""

    endpoint: str
    uri: str
    model: records.Model


class Record(records.Record):
    """`live` None: users are led nowhere, as before the first release. `moves` counts how often that changed.

    `tags` are those that a rollout writes on an endpoint, `reason` and `moved_by` of the last move.
    """

    application: str
    live: Side | None
    tags: dict[str, str] = Field(default_factory=dict)
    reason: str = ""
    moved_at: datetime
    moved_by: str
    moves: int


def place(settings: Settings) -> "BlobClient":
    """Where an environment's record is. Raises AzureFailed."""
    return storage.container(settings).get_blob_client(PLACE.format(application=settings.endpoint))


def read(blob: "BlobClient") -> tuple[Record | None, str | None]:
    """(record, its ETag); (None, None) before the first release. Raises AzureFailed."""
    from azure.core.exceptions import ResourceNotFoundError

    with azure_ml.explained(f"Reading {blob.blob_name}"):
        try:
            found = blob.download_blob()
        except ResourceNotFoundError:
            return None, None
        body = found.readall()
    try:
        return Record.model_validate_json(body), str(found.properties.etag)
    except ValidationError as error:
        raise AzureFailed(f"{blob.blob_name} is not a record of what is live: {error.errors()[0]['msg']}.") from None


def write(blob: "BlobClient", record: Record, over: str | None) -> None:
    """Replace exactly version `over` (None: there is none yet). Raises AzureFailed for a lost race."""
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceExistsError, ResourceModifiedError

    body = record.model_dump_json(indent=2).encode()
    with azure_ml.explained(f"Writing {blob.blob_name}"):
        try:
            if over is None:  # sends If-None-Match: *
                blob.upload_blob(body, overwrite=False)
            else:
                blob.upload_blob(body, overwrite=True, etag=over, match_condition=MatchConditions.IfNotModified)
        except (ResourceExistsError, ResourceModifiedError):
            raise AzureFailed(
                f"{record.application} was moved by somebody else meanwhile: `python -m scripts live` says where to."
            ) from None
