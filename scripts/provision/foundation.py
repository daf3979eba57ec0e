"""What a workspace is built on: providers, group, identities, registry."""

from scripts.provision import names, providers
from scripts.provision.place import REGISTRY_VERSION, Place
from scripts.provision.resource import Resource


def foundation(place: Place) -> list[Resource]:
    """Providers, group, identities, registry: what a workspace is built on."""
    settings, groups = place.settings, place.management.resource_groups
    group = settings.resource_group
    return [
        *providers.resources(place),
        Resource(
            "resource group",
            group,
            lambda: groups.get(group),
            lambda: groups.create_or_update(group, {"location": settings.location, "tags": names.MADE_BY}),
            where=settings.location,
            why="holds all of it",
            stays=names.foreign,
        ),
        identity(place, settings.endpoint_identity, "the endpoint reads its image and model as this"),
        identity(place, settings.training_identity, "the cluster reads data and writes outputs as this"),
        registry(place),
    ]


def identity(place: Place, name: str, why: str) -> Resource:
    group, known = place.settings.resource_group, place.msi.user_assigned_identities
    wanted = {"location": place.settings.location, "tags": names.MADE_BY}
    return Resource(
        "managed identity",
        name,
        lambda: known.get(group, name),
        lambda: known.create_or_update(group, name, wanted),
        where=group,
        why=why,
        stays=names.foreign,
        remove=lambda: known.delete(group, name),
    )


def registry(place: Place) -> Resource:
    """Made before the workspace, because the endpoint's right to pull from it is given here and not by the service."""
    settings, known = place.settings, place.management.resources

    def create() -> None:
        wanted = {
            "location": settings.location,
            "tags": names.MADE_BY,
            "sku": {"name": "Standard"},
            "properties": {"adminUserEnabled": False},
        }
        known.begin_create_or_update_by_id(place.registry_id, wanted, api_version=REGISTRY_VERSION).result()

    return Resource(
        "container registry",
        place.registry_id.rpartition("/")[2],
        lambda: known.get_by_id(place.registry_id, api_version=REGISTRY_VERSION),
        create,
        where=settings.resource_group,
        why="images of the two environments; no admin account",
        stays=names.foreign,
        remove=lambda: known.begin_delete_by_id(place.registry_id, api_version=REGISTRY_VERSION).result(),
    )
