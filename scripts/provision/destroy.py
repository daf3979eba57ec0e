"""Taking away what `provision` made, and nothing else: it goes by the tag or the name that `provision` gave.

Backwards, so that nothing is deleted before what needs it. The group itself goes only when it is ours and empty.
"""

from collections.abc import Callable

from azure.core.exceptions import ResourceNotFoundError

from scripts import autoscale, azure_ml, records
from scripts.errors import InvalidInput
from scripts.github import environments
from scripts.live import COLOURS
from scripts.provision import alerts, definitions, foundation, names, providers, roles, workplace
from scripts.provision.place import Place
from scripts.provision.resource import Resource
from scripts.settings import Settings


class Removed(records.Part):
    """`goes` (would be deleted), `deleted`, or `stays`, and why."""

    kind: str
    name: str
    state: str
    why: str = ""


class Destroyed(records.Record):
    """`provision.json` of a `--destroy`."""

    resource_group: str
    parts: list[Removed]


def destroy(settings: Settings, *, typed: str = "", tell: Callable[[Removed], None] = lambda _: None) -> Destroyed:
    """Delete when the group's name is `typed` out, else say what would go. Raises InvalidInput for another name."""
    if typed and typed != settings.resource_group:
        raise InvalidInput(
            f"--name says {typed!r}, but the settings are of the resource group {settings.resource_group!r}: "
            "type that name, or choose the settings of the other group."
        )
    place, parts = Place(settings), []
    with azure_ml.explained("Looking at the resource providers"):
        unregistered = {each.name for each in providers.resources(place) if each.state() == "missing"}
    for resource in reversed(_all(place)):
        if not unregistered.isdisjoint(resource.needs):
            continue
        with azure_ml.explained(f"Deleting {resource.kind} {resource.name}"):
            part = _remove(resource, delete=bool(typed))
        if part:
            tell(part)
            parts.append(part)
    with azure_ml.explained(f"Deleting resource group {settings.resource_group}"):
        if part := _group(place, delete=bool(typed)):
            tell(part)
            parts.append(part)
    return Destroyed(resource_group=settings.resource_group, parts=parts)


def _all(place: Place) -> list[Resource]:
    """Everything that provision may have made, but the group; of GitHub's environments too, whatever the repository."""
    side = environments.load()
    wanted = [*roles.workload_grants(place), *roles.github_grants(place, side)]
    users = [names.github_identity(each.name) for each in side.environments if each.azure]
    found = [
        *foundation.foundation(place),
        *(foundation.identity(place, user, "") for user in users),
        *workplace.workplace(place),
        *alerts.resources(place),
        *(autoscale_of(place, colour) for colour in COLOURS),
    ]
    every = [*found, *definitions.resources(wanted), *(each.resource() for each in wanted)]
    return [resource for resource in every if resource.kind != "resource group"]


def autoscale_of(place: Place, colour: str) -> Resource:
    """What scripts/autoscale.py gave a colour; provision makes none."""
    known, group = place.monitor.autoscale_settings, place.settings.resource_group
    name = autoscale.setting_name(place.settings, colour)
    return Resource(
        "autoscale setting",
        name,
        lambda: known.get(group, name),
        lambda: None,
        where=group,
        stays=names.foreign,
        remove=lambda: known.delete(group, name),
    )


def _remove(resource: Resource, *, delete: bool) -> Removed | None:
    """None for what is not there, or goes with what it is in."""
    found = resource.found() if resource.remove else None
    if found is None or resource.remove is None:
        return None
    part = Removed(kind=resource.kind, name=resource.name, state="goes")
    if why := resource.stays(found):
        return part.model_copy(update={"state": "stays", "why": why})
    if delete:
        with azure_ml.waiting(f"Deleting {resource.kind} {resource.name}"):
            resource.remove()
        return part.model_copy(update={"state": "deleted"})
    return part


def _group(place: Place, *, delete: bool) -> Removed | None:
    known, name = place.management, place.settings.resource_group
    try:
        found = known.resource_groups.get(name)
    except ResourceNotFoundError:
        return None
    part = Removed(kind="resource group", name=name, state="goes")
    if why := names.foreign(found):
        return part.model_copy(update={"state": "stays", "why": why})
    if not delete:
        return part
    left = [str(each.name) for each in known.resources.list_by_resource_group(name)]
    if left:
        return part.model_copy(update={"state": "stays", "why": f"it still holds {', '.join(left[:5])}"})
    known.resource_groups.begin_delete(name).result()
    return part.model_copy(update={"state": "deleted"})
