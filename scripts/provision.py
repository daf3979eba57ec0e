"""Everything that must exist before the first release. Idempotent: what is there stays as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, digests, records
from scripts.errors import InvalidInput
from scripts.settings import Image, Settings

TRAIN_TAG = "train"


@dataclass(frozen=True)
class Resource:
    """One thing to create: `exists` asks Azure, `create` waits until it is there."""

    kind: str
    name: str
    exists: Callable[[], object]
    create: Callable[[], object]


class Provisioned(records.Part):
    kind: str
    name: str
    state: str


class Provision(records.Record):
    """`provision.json`: what was there and what was made."""

    workspace: str
    resources: list[Provisioned]


def provision(
    settings: Settings, *, plan_only: bool = False, tell: Callable[[str, str, str], None] = lambda *_: None
) -> Provision:
    """Create what is missing, in order. `tell(kind, name, state)` is called as each resource is settled.

    Raises AzureFailed when Azure refuses, InvalidInput when a conda file is missing.
    """
    done = []
    for resource in resources(settings):
        state = "exists"
        with azure_ml.explained(f"Provisioning {resource.kind} {resource.name}"):
            if not _exists(resource):
                state = "missing" if plan_only else "created"
                if not plan_only:
                    with azure_ml.waiting(f"Creating {resource.kind} {resource.name}"):
                        resource.create()
        tell(resource.kind, resource.name, state)
        done.append(Provisioned(kind=resource.kind, name=resource.name, state=state))
    return Provision(workspace=settings.workspace, resources=done)


def _exists(resource: Resource) -> bool:
    try:
        resource.exists()
    except ResourceNotFoundError:
        return False
    return True


def resources(settings: Settings) -> list[Resource]:
    """What one environment consists of, each after what it needs."""
    from azure.ai.ml.entities import AmlCompute, Environment, Workspace
    from azure.mgmt.msi import ManagedServiceIdentityClient
    from azure.mgmt.resource.resources import ResourceManagementClient

    credential = azure_ml.credential()
    groups = ResourceManagementClient(credential, settings.subscription_id).resource_groups
    identities = ManagedServiceIdentityClient(credential, settings.subscription_id).user_assigned_identities
    ml = azure_ml.client(settings)
    group, compute = settings.resource_group, settings.compute

    def environment(image: Image) -> Resource:
        version = environment_version(image)
        entity = Environment(name=image.name, version=version, image=image.image, conda_file=str(image.conda_file))
        return Resource(
            "environment",
            f"{image.name}:{version}",
            lambda: ml.environments.get(image.name, version),
            lambda: ml.environments.create_or_update(entity),
        )

    cluster = AmlCompute(
        name=compute.name,
        size=compute.size,
        min_instances=0,
        max_instances=compute.max_instances,
        idle_time_before_scale_down=compute.idle_seconds,
        tier="dedicated",
    )
    return [
        Resource(
            "resource group",
            group,
            lambda: groups.get(group),
            lambda: groups.create_or_update(group, {"location": settings.location}),
        ),
        Resource(
            "managed identity",
            settings.endpoint_identity,
            lambda: identities.get(group, settings.endpoint_identity),
            lambda: identities.create_or_update(group, settings.endpoint_identity, {"location": settings.location}),
        ),
        Resource(
            "workspace",
            settings.workspace,
            lambda: ml.workspaces.get(settings.workspace),
            lambda: ml.workspaces.begin_create(
                Workspace(name=settings.workspace, location=settings.location, resource_group=group)
            ).result(),
        ),
        Resource(
            "compute cluster",
            compute.name,
            lambda: ml.compute.get(compute.name),
            lambda: ml.compute.begin_create_or_update(cluster).result(),
        ),
        environment(settings.training_environment),
        environment(settings.serving_environment),
        Resource(
            "endpoint",
            settings.endpoint,
            lambda: ml.online_endpoints.get(settings.endpoint),
            lambda: ml.online_endpoints.begin_create_or_update(_endpoint(settings, identities)).result(),
        ),
    ]


def _endpoint(settings: Settings, identities: object) -> object:
    """Entra tokens only (no key to leak), and an identity of its own to read the model with."""
    from azure.ai.ml.entities import IdentityConfiguration, ManagedIdentityConfiguration, ManagedOnlineEndpoint

    identity = identities.get(settings.resource_group, settings.endpoint_identity)  # type: ignore[attr-defined]
    return ManagedOnlineEndpoint(
        name=settings.endpoint,
        auth_mode="aad_token",
        tags=train_tag(settings),
        identity=IdentityConfiguration(
            type="user_assigned",
            user_assigned_identities=[ManagedIdentityConfiguration(resource_id=identity.id)],
        ),
    )


def train_tag(settings: Settings) -> dict[str, str]:
    """By this `reap` knows an endpoint as this train's own, when no settings file names it any more."""
    return {TRAIN_TAG: settings.experiment}


def environment_version(image: Image) -> str:
    """The version is the content, so that changing a dependency makes a new environment and nothing else does."""
    if not Path(image.conda_file).is_file():
        raise InvalidInput(f"{image.conda_file}: the conda file of environment {image.name} is missing.")
    return digests.of_values(image.image, digests.of_file(image.conda_file))[:12]
