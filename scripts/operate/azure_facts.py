"""What the questions of day 2 ask of Azure: which model a deployment runs, which jobs there are, how old it all is."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


API_VERSION = "2024-10-01"


def model_of(deployment: Any) -> tuple[str, str]:
    """Name and version of a deployment's model, ("", "") when it names none.

    Its ARM id ends in …/models/NAME/versions/VERSION.
    """
    parts = str(deployment.model or "").split("/")
    return (parts[-3], parts[-1]) if len(parts) > 3 and parts[-2] == "versions" else ("", "")


def model(ml: "MLClient", name: str, version: str) -> Any | None:
    """A model version, None when it is gone or was never named."""
    if not name:
        return None
    try:
        return ml.models.get(name, version)
    except ResourceNotFoundError:
        return None


def jobs(ml: "MLClient") -> Iterator[Any]:
    """Every job of the workspace, archived ones too: a name stays taken."""
    from azure.ai.ml.constants import ListViewType

    return (job for job in ml.jobs.list(list_view_type=ListViewType.ALL) if job is not None)


def state(entity: Any) -> str:
    """The provisioning state as Azure writes it. The SDK gives a string for some and a member of an enum for others."""
    return str(getattr(entity.provisioning_state, "value", entity.provisioning_state))


def created(entity: Any) -> datetime | None:
    return _utc(getattr(entity.creation_context, "created_at", None))


def changed(deployment: Any) -> datetime | None:
    """When a deployment was last written; its creation where Azure does not say more."""
    return latest(deployment.creation_context)


def latest(context: Any) -> datetime | None:
    """The newest time of what Azure says about a resource itself."""
    told = (getattr(context, name, None) for name in ("last_modified_at", "created_at"))
    return next(filter(None, map(_utc, told)), None)


def endpoint_changed(settings: Settings, endpoint: Any) -> datetime | None:
    """When an endpoint was last written, be it only its weights.

    Asked of Azure itself: the SDK's entity keeps the times among the properties, sends them back with every update, and
    then shows those stale ones for ever.
    """
    from azure.mgmt.resource.resources import ResourceManagementClient

    resources = ResourceManagementClient(azure_ml.credential(), settings.subscription_id).resources
    body = resources.get_by_id(endpoint.id, api_version=API_VERSION, cls=lambda answer, *_: answer.http_response.json())
    return _utc((body.get("systemData") or {}).get("lastModifiedAt"))


def _utc(when: datetime | str | None) -> datetime | None:
    """A time in UTC; None for what is no time, because an unknown age must never look like one."""
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            return None
    if not isinstance(when, datetime):
        return None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
