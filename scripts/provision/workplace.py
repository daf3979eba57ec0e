"""What a train works with: workspace, cluster, environments, endpoint, each after what it needs."""

from pathlib import Path
from typing import TYPE_CHECKING

from scripts import digests
from scripts.errors import InvalidInput, Refused
from scripts.provision import names
from scripts.provision.diagnostics import diagnostics
from scripts.provision.place import Place
from scripts.provision.resource import Resource
from scripts.settings import Image

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


def workplace(place: Place) -> list[Resource]:
    """Workspace, cluster, environments, endpoint, and where the endpoint's requests are logged."""
    settings = place.settings
    found = [
        workspace(place),
        cluster(place),
        environment(place, settings.training_environment),
        *([environment(place, settings.serving_environment)] if settings.serving_environment else []),
        endpoint(place),
    ]
    return [*found, diagnostics(place)] if settings.log_analytics_workspace_id else found


def workspace(place: Place) -> Resource:
    from azure.ai.ml.entities import Workspace

    settings, known = place.settings, place.ml.workspaces

    def create() -> None:
        """One that is there and has no registry gets ours; else the service would make one of its own at first need."""
        wanted = Workspace(
            name=settings.workspace,
            location=settings.location,
            resource_group=settings.resource_group,
            container_registry=place.registry_id,
            tags=names.MADE_BY,
        )
        if there.found() is None:
            known.begin_create(wanted).result()
        else:
            change = Workspace(name=settings.workspace, container_registry=place.registry_id)
            known.begin_update(change, update_dependent_resources=True).result()
        place.__dict__.pop("workspace", None)  # it is not what was read before

    def stays(found: object) -> str:
        others = [one for one in place.ml.online_endpoints.list() if one.name != settings.endpoint]
        held = [str(one.name) for one in others if names.foreign(one)]
        return names.foreign(found) or (f"it holds endpoints of others: {', '.join(held)}" if held else "")

    def remove() -> None:
        """For good: without the storage that goes with it there is nothing to recover, and its name becomes free."""
        known.begin_delete(settings.workspace, delete_dependent_resources=True, permanently_delete=True).result()

    there = Resource(
        "workspace",
        settings.workspace,
        lambda: known.get(settings.workspace),
        create,
        where=settings.resource_group,
        why="with storage, key vault and insights of its own",
        differs=lambda found: not getattr(found, "container_registry", None),
        stays=stays,
        remove=remove,
    )
    return there


def cluster(place: Place) -> Resource:
    from azure.ai.ml.entities import AmlCompute, IdentityConfiguration, ManagedIdentityConfiguration

    compute, known = place.settings.compute, place.ml.compute
    nodes = f"{compute.tier.replace('_', '-')} nodes of {compute.size}"
    wanted = AmlCompute(
        name=compute.name,
        size=compute.size,
        min_instances=0,
        max_instances=compute.max_instances,
        idle_time_before_scale_down=compute.idle_seconds,
        tier=compute.tier,
        tags=names.MADE_BY,
        identity=IdentityConfiguration(
            type="user_assigned",
            user_assigned_identities=[
                ManagedIdentityConfiguration(resource_id=place.identity_id(place.settings.training_identity))
            ],
        ),
    )
    return Resource(
        "compute cluster",
        compute.name,
        lambda: known.get(compute.name),
        lambda: known.begin_create_or_update(wanted).result(),
        where=place.settings.workspace,
        why=f"0 to {compute.max_instances} {nodes}, back to 0 after {compute.idle_seconds} s",
        stays=names.foreign,
        remove=lambda: known.begin_delete(compute.name).result(),
    )


def environment(place: Place, image: Image) -> Resource:
    from azure.ai.ml.entities import BuildContext, Environment

    version = environment_version(image)
    if image.build and image.routes:
        routes = image.routes
        wanted = Environment(
            name=image.name,
            version=version,
            build=BuildContext(path=str(image.build), dockerfile_path="Dockerfile"),
            inference_config={
                f"{what}_route": {"path": getattr(routes, what), "port": routes.port}
                for what in ("liveness", "readiness", "scoring")
            },
        )
    else:
        wanted = Environment(name=image.name, version=version, image=image.image, conda_file=str(image.conda_file))
    return Resource(
        "environment",
        f"{image.name}:{version}",
        lambda: place.ml.environments.get(image.name, version),
        lambda: place.ml.environments.create_or_update(wanted),
        where=place.settings.workspace,
        why=f"what {image.files[0]} asks for",
    )


def endpoint(place: Place) -> Resource:
    """Entra tokens only (no key to leak), and an identity of its own to read the model with."""
    from azure.ai.ml.entities import IdentityConfiguration, ManagedIdentityConfiguration, ManagedOnlineEndpoint

    settings, known = place.settings, place.ml.online_endpoints
    wanted = ManagedOnlineEndpoint(
        name=settings.endpoint,
        auth_mode="aad_token",
        tags={**names.train_tag(settings), **names.MADE_BY},
        identity=IdentityConfiguration(
            type="user_assigned",
            user_assigned_identities=[
                ManagedIdentityConfiguration(resource_id=place.identity_id(settings.endpoint_identity))
            ],
        ),
    )
    return Resource(
        "endpoint",
        settings.endpoint,
        lambda: known.get(settings.endpoint),
        lambda: known.begin_create_or_update(wanted).result(),
        where=settings.workspace,
        why="Entra tokens only",
        stays=names.foreign,
        remove=lambda: known.begin_delete(settings.endpoint).result(),
    )


def environment_version(image: Image) -> str:
    """The version is the content, so that changing a dependency makes a new environment and nothing else does."""
    for file in image.files:
        if not file.is_file():
            raise InvalidInput(f"{file}: this file of environment {image.name} is missing.")
    if image.build and image.routes:
        return digests.of_values(digests.of_folder(image.build), image.routes.model_dump_json())[:12]
    return digests.of_values(str(image.image), digests.of_file(Path(str(image.conda_file))))[:12]


def registered(ml: "MLClient", image: Image) -> str:
    """The environment's id for a job or a deployment.

    Raises Refused when it is not there: its files changed, or the settings name another one, since `provision` ran.
    """
    from azure.core.exceptions import ResourceNotFoundError

    version = environment_version(image)
    try:
        ml.environments.get(image.name, version)
    except ResourceNotFoundError:
        raise Refused(
            f"Environment {image.name}:{version}, as {image.files[0]} has it now, is not registered: "
            "run `python -m scripts provision`."
        ) from None
    return f"azureml:{image.name}:{version}"
