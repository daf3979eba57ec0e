"""Is there room in the quota for more of an endpoint's instances? Asked before anything is made or moved."""

from collections.abc import Iterable, Mapping
from typing import Any

from scripts import azure_ml, quota
from scripts.errors import Refused
from scripts.settings import Settings


def check(settings: Settings, what: str, size: str, instances: int, held: int = 0) -> None:
    """Raises Refused unless the size's family has room for a deployment (`what`) to go from `held` to
    `instances`.

    What Azure does not list has no room: a size of another region, a family without a limit.
    """
    region, ml = settings.location, azure_ml.client(settings)
    with azure_ml.explained(f"Reading the quotas of {region}"):
        found = [each for each in ml.compute.list_sizes(location=region) if str(each.name).lower() == size.lower()]
        usages = usages_of(ml.compute.list_usage(location=region))
    if not found:
        raise Refused(f"Azure ML has no size {size} in {region}: change `serving.instance_type` in the settings file.")
    vcpus, family = int(quota.value(found[0], "v_cp_us", "vCPUs")), str(found[0].family)
    need = quota.serving_vcpus(size, vcpus, instances) - (quota.serving_vcpus(size, vcpus, held) if held else 0)
    used, limit = usages.get(quota.key(family), (0, 0))
    if need > 0 and used + need > limit:
        raise Refused(f"{what}: {quota.no_room(size, need, f' in {region}', used, limit)}.")


def usages_of(rows: Iterable[Any]) -> dict[str, tuple[int, int]]:
    """(used, limit) by family. The SDK gives a usage's name as the mapping it got, whatever its types say."""
    found = {}
    for row in rows:
        name = row.name.get("value") if isinstance(row.name, Mapping) else getattr(row.name, "value", None)
        if name and row.limit is not None:
            found[quota.key(str(name))] = int(quota.value(row, "current_value", "currentValue")), int(row.limit)
    return found
