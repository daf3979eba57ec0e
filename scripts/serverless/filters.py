"""The content filter in front of a serverless endpoint: over ARM, because the SDK's entity has no field for it."""

from typing import Any

from scripts import azure_ml
from scripts.settings import Settings

VERSION = "2024-10-01-preview"  # knows contentSafety; the version that the SDK speaks does not


def management(settings: Settings) -> Any:
    from azure.mgmt.resource.resources import ResourceManagementClient

    return ResourceManagementClient(azure_ml.credential(), settings.subscription_id)


def _resource_id(settings: Settings, name: str) -> str:
    from scripts.routes.serverless import workspace_id

    return f"{workspace_id(settings)}/serverlessEndpoints/{name}"


def on(settings: Settings, name: str) -> bool:
    """Whether Azure says that the content filter is on."""
    with azure_ml.explained(f"Reading the content filter of {name}"):
        found = management(settings).resources.get_by_id(_resource_id(settings, name), api_version=VERSION)
    safety = (found.properties or {}).get("contentSafety") or {}
    return str(safety.get("contentSafetyStatus", "Enabled")).lower() == "enabled"


def switch(settings: Settings, name: str, tags: dict[str, str], *, content_filter: bool) -> None:
    resources, place = management(settings).resources, _resource_id(settings, name)
    status = "Enabled" if content_filter else "Disabled"
    with azure_ml.explained(f"Setting the content filter of {name}"):
        found = resources.get_by_id(place, api_version=VERSION)
        old = found.properties or {}
        kept = {each: old[each] for each in ("authMode", "modelSettings") if each in old}
        wanted = {
            "location": found.location,
            "tags": tags,
            "sku": {"name": "Consumption"},
            "properties": {**kept, "contentSafety": {"contentSafetyStatus": status}},
        }
        resources.begin_create_or_update_by_id(place, parameters=wanted, api_version=VERSION).result()
