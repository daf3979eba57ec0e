"""Where the endpoint's requests are logged."""

from contextlib import suppress
from typing import Any

from scripts.provision.place import NotSeen, Place
from scripts.provision.resource import Resource

VERSION = "2021-05-01-preview"
TRAFFIC_LOG = "AmlOnlineEndpointTrafficLog"
SETTING = "requests"


def diagnostics(place: Place) -> Resource:
    """One row per request in Log Analytics, for `monitor: request-log`."""
    known, target = place.management.resources, f"{place.endpoint_id}/providers/Microsoft.Insights/diagnosticSettings"
    path = f"{target}/{SETTING}"

    def create() -> None:
        logs = [{"category": TRAFFIC_LOG, "enabled": True}]
        wanted = {"properties": {"workspaceId": place.log_id, "logs": logs}}
        known.begin_create_or_update_by_id(path, wanted, api_version=VERSION).result()

    def differs(found: Any) -> bool:
        kept = found.properties or {}
        logged = [log["category"] for log in kept.get("logs") or [] if log.get("enabled")]
        with suppress(NotSeen):  # whoever may not see the log cannot say that it is another one
            return TRAFFIC_LOG not in logged or str(kept.get("workspaceId", "")).lower() != place.log_id.lower()
        return TRAFFIC_LOG not in logged

    return Resource(
        "diagnostic setting",
        SETTING,
        lambda: known.get_by_id(path, api_version=VERSION),
        create,
        where=place.settings.endpoint,
        why="a row per request in Log Analytics",
        differs=differs,
        stays=lambda _: "",  # its name and its place are ours
        remove=lambda: known.begin_delete_by_id(path, api_version=VERSION).result(),
    )
