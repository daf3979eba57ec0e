"""Is there room in Azure for a training node, and for both colours side by side?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scripts import azure_ml, quota, room
from scripts.doctor.context import Context, Skip
from scripts.errors import AzureFailed, Refused
from scripts.settings import Settings

COLOURS = 2


@dataclass(frozen=True)
class Need:
    """vCPUs of a family that the setting `where` asks for."""

    where: str
    size: str
    family: str
    vcpus: int


def region(context: Context) -> str:
    """Raises Refused when Azure ML is not in the region of the settings; Skip when we may not ask."""
    wanted = context.settings.location
    with azure_ml.explained("Reading where Azure ML is"):
        found = _provider(context)
        if found is None:
            raise Skip("not checked: this identity may not read the subscription")
    kinds = [each for each in found.resource_types or [] if str(each.resource_type).lower() == "workspaces"]
    known = {str(name).lower().replace(" ", "") for each in kinds for name in each.locations or []}
    if wanted.lower() not in known:
        raise Refused(f"Azure ML is not in the region {wanted}: change `location` in the settings file.")
    return f"Azure ML is in {wanted}"


def _provider(context: Context) -> Any | None:
    """Azure ML as the subscription knows it; None when we may not ask."""
    from azure.core.exceptions import HttpResponseError

    try:
        return context.place.management.providers.get("Microsoft.MachineLearningServices")
    except HttpResponseError as error:
        if error.status_code == 403:
            return None
        raise


def check(context: Context) -> str:
    """Raises Refused when a family's limit is too low for what the settings ask of it."""
    region, ml = context.settings.location, context.place.ml
    try:
        with azure_ml.explained(f"Reading the quotas of {region}"):
            # Asked for the quotas of a provider that is not registered, the SDK would register it.
            if (provider := _provider(context)) and str(provider.registration_state) == "NotRegistered":
                raise Skip(f"not checked: {provider.namespace} is not registered yet, which `provision` does")
            sizes, usages = context.each(
                lambda ask: list(ask(location=region)), (ml.compute.list_sizes, ml.compute.list_usage)
            )
            used = room.usages_of(usages)
    except AzureFailed as error:
        if getattr(error.__cause__, "status_code", None) == 403:
            raise Skip("not checked: this identity may not read the quotas of the subscription") from None
        raise
    limits = {name: limit for name, (_, limit) in used.items()}
    needs = needs_of(context.settings, sizes)
    if short := shortages(needs, limits, region):
        raise Refused("; ".join(short) + ".")
    return ", ".join(
        f"{total} of {limits[quota.key(family)]} vCPUs of {family} ({used[quota.key(family)][0]} in use now)"
        for family, total in totals(needs).items()
    )


def needs_of(settings: Settings, sizes: Iterable[Any]) -> list[Need]:
    """What one training node and two deployments take. Raises Refused for a size that Azure ML does not have.

    Low-priority nodes take nothing of their family: Azure counts them all against one quota of their own.
    """
    known = {str(each.name).lower(): each for each in sizes}
    serving, found = settings.serving, []
    for where, size in (("compute.size", settings.compute.size), ("serving.instance_type", serving.instance_type)):
        if size.lower() not in known:
            raise Refused(f"Azure ML has no size {size} in {settings.location}: change `{where}` in the settings file.")
        entity = known[size.lower()]
        vcpus = int(quota.value(entity, "v_cp_us", "vCPUs"))
        if where == "serving.instance_type":
            # A rollout gives the new colour as many as the live one has, which autoscale may have made the most.
            most = max(serving.instance_count, serving.scale.max_instances)
            vcpus = COLOURS * quota.serving_vcpus(size, vcpus, most)
        elif settings.compute.tier == "low_priority":
            continue
        found.append(Need(where, size, str(entity.family), vcpus))
    return found


def totals(needs: Iterable[Need]) -> dict[str, int]:
    """vCPUs by family: training and serving may share one."""
    found: dict[str, int] = {}
    for need in needs:
        found[need.family] = found.get(need.family, 0) + need.vcpus
    return found


def shortages(needs: list[Need], limits: Mapping[str, int], region: str) -> list[str]:
    """A sentence for each family whose limit is too low or not on record."""
    found = []
    for family, total in totals(needs).items():
        limit = limits.get(quota.key(family), 0)
        if limit < total:
            users = " and ".join(f"`{need.where}` {need.size}" for need in needs if need.family == family)
            found.append(
                f"family {family} in {region} has a limit of {limit} vCPUs and {users} need {total}; "
                f"{quota.ASK}, or change the size in the settings file"
            )
    return found
