"""What is asked of the registry and of the cluster before a pipeline is made, and what is settled by that."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from scripts import azure_ml, records, training_size
from scripts.errors import AzureFailed, InvalidInput
from scripts.routes.registry_recipe import Recipe
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


class Settled(records.Part):
    """What a submit asks of Azure, once nothing in it is `latest` any more. Digested into the job's name."""

    model: str  # ids in the registry
    component: str
    display_name: str
    gpus: int
    parameters: dict[str, str | int | float]


def _registry(name: str) -> "MLClient":
    from azure.ai.ml import MLClient

    return MLClient(azure_ml.credential(), registry_name=name, enable_telemetry=False, show_progress=False)


def model(asked: Recipe) -> Any:
    """Raises InvalidInput for a model or version that the registry does not have."""
    named, version = asked.base_model.source, asked.base_model.revision
    which = {"label": "latest"} if version == "latest" else {"version": version}
    return _of_registry(asked.registry, "model", named, version, lambda found: found.models.get(named, **which))


def component(asked: Recipe, version: str = "") -> Any:
    """`version`: instead of the recipe's. Raises InvalidInput."""
    named, version = asked.component.name, version or asked.component.version
    which = {"label": "latest"} if version == "latest" else {"version": version}
    return _of_registry(asked.registry, "component", named, version, lambda found: found.components.get(named, **which))


def _of_registry(registry: str, kind: str, name: str, version: str, ask: Callable[["MLClient"], Any]) -> Any:
    with azure_ml.explained(f"Reading {kind} {name} of registry {registry}"):
        try:
            return ask(_registry(registry))
        except HttpResponseError as error:  # by its label, what is not there is no ResourceNotFoundError
            if error.status_code != 404:
                raise
            raise InvalidInput(
                f"Registry {registry} has no {kind} {name} with version {version}: look it up in the model catalogue "
                "of Azure ML studio, and mend the recipe."
            ) from None


def cluster(settings: Settings, ml: "MLClient") -> tuple[str, int]:
    """Size and most instances of the cluster; of one that is not there yet, as it will be made.

    Raises AzureFailed for one whose provisioning has failed.
    """
    with azure_ml.explained(f"Reading cluster {settings.compute.name}"):
        try:
            found = ml.compute.get(settings.compute.name)
        except ResourceNotFoundError:
            return settings.compute.size, settings.compute.max_instances
    state = found.provisioning_state  # text, or a member of an enumeration, whose str() is not its value
    if str(getattr(state, "value", state)).lower() == "failed":
        raise AzureFailed(
            f"The provisioning of cluster {settings.compute.name} failed: delete it, or name another in compute.name, "
            "and run `provision`."
        )
    return str(getattr(found, "size", None) or settings.compute.size), int(getattr(found, "max_instances", None) or 1)


def sizes(settings: Settings, ml: "MLClient", tell: Callable[[str], None]) -> list[tuple[str, int]]:
    """Name and GPUs of every size in the region. Who may not read Azure's list gets our own table, and it is said."""
    with azure_ml.explained(f"Reading the sizes of {settings.location}"):
        try:
            return [(str(each.name), int(each.gpus or 0)) for each in ml.compute.list_sizes(location=settings.location)]
        except HttpResponseError as error:
            if error.status_code != 403:
                raise
    tell("This identity may not read Azure's list of sizes: the GPUs of an instance are those of our own table.")
    return [(f"Standard_{name}", count) for name, count in training_size.GPUS.items()]
