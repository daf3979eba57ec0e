"""Serverless endpoints: deploy a model to one, ask it, delete it in the order that the service wants."""

import re
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from scripts import azure_ml, digests, records, sample_requests
from scripts.endpoint import Requests
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.routes import serverless_recipe
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

CHAT = "/v1/chat/completions"
SIZE = "serverless"  # where other deployments name the size of their instances
APPLICATION, DIGEST, FILTER = "application", "model_digest", "content_filter"  # tags
FILTER_VERSION = "2024-10-01-preview"  # knows contentSafety; the version that the SDK speaks does not
MODEL_VERSION = "2023-08-01-preview"


def base_model(recipe: str) -> records.Model:
    """The catalogue model that a recipe starts from: the baseline of a first release."""
    asked = serverless_recipe.of_name(recipe)
    return records.Model(
        name=asked.base_model.source,
        version=asked.base_model.revision,
        id=asked.model,
        digest=digests.of_values(asked.model),
        path=asked.model,
        lineage=records.Lineage(),
    )


def name_of(settings: Settings, model: records.Model) -> str:
    """An endpoint is named by its model's digest, so that a second `deploy` finds it. Region-wide: 52 characters."""
    return f"{settings.endpoint[:43]}-{model.digest[:8]}"


def model_id(ml: "MLClient", settings: Settings, model: records.Model) -> str:
    """As the service wants it: a catalogue model without its version, a custom one by region and workspace."""
    if named := serverless_recipe.CATALOGUE.match(model.id):
        return named[0]
    guid = ml.workspaces.get(settings.workspace)._workspace_id  # the SDK shows it nowhere else; its samples read it too
    return f"azureml://locations/{settings.location}/workspaces/{guid}/models/{model.name}/versions/{model.version}"


def deploy_model(
    settings: Settings, model: records.Model, smoke: Sequence[dict[str, Any]], *, content_filter: bool = True
) -> records.Deployment:
    """Create the model's endpoint, or find it, see that it filters as asked, and smoke-test it. Nobody is led there.

    Raises AzureFailed when it does not come or does not answer, Refused for a region where the model is not deployed.
    """
    from azure.ai.ml.entities import ServerlessEndpoint

    if serverless_recipe.CATALOGUE.match(model.id):
        serverless_recipe.offer(model.id, settings.location, "deploy")
    ml, name = azure_ml.client(settings), name_of(settings, model)
    found = find(ml, name)
    kept = found is not None and str(found.provisioning_state).lower() == "succeeded"
    tags = {APPLICATION: settings.endpoint, DIGEST: model.digest, FILTER: str(content_filter).lower()}
    if not kept:
        what = f"Creating serverless endpoint {name}"
        with azure_ml.explained(what), azure_ml.waiting(what):
            wanted = ServerlessEndpoint(name=name, model_id=model_id(ml, settings, model), tags=tags)
            ml.serverless_endpoints.begin_create_or_update(wanted).result()
    if filters(settings, name) != content_filter:
        _set_filter(settings, name, tags, content_filter=content_filter)
    if filters(settings, name) != content_filter:
        raise AzureFailed(f"Endpoint {name} was told content filter {content_filter} and says otherwise.")
    checked = probe(settings, name, smoke)
    if checked.failures or not checked.requests:
        raise AzureFailed(f"Endpoint {name} failed {checked.failures} of {checked.requests} smoke requests.")
    return records.Deployment(
        endpoint=name,
        deployment=name,
        model=f"azureml:{model.name}:{model.version}",
        model_digest=model.digest,
        instance_type=SIZE,
        weight=0,
        kept=kept,
        smoke=checked,
    )


def find(ml: "MLClient", name: str) -> Any | None:
    with azure_ml.explained(f"Reading serverless endpoint {name}"):
        try:
            return ml.serverless_endpoints.get(name)
        except ResourceNotFoundError:
            return None


def need(settings: Settings, model: records.Model) -> tuple[str, str]:
    """(name, address) of the endpoint that serves a model. Raises InvalidInput when there is none."""
    name = name_of(settings, model)
    found = find(azure_ml.client(settings), name)
    if found is None or (found.tags or {}).get(DIGEST) != model.digest:
        raise InvalidInput(
            f"No serverless endpoint serves {model.name}:{model.version}: run `python -m scripts serverless deploy`."
        )
    return name, f"{found.scoring_uri}{CHAT}"


def key(settings: Settings, name: str) -> str:
    """The endpoint's key, fetched anew each time and kept nowhere; "" where it takes Entra tokens alone."""
    ml = azure_ml.client(settings)
    with azure_ml.explained(f"Fetching the key of {name}"):
        if str(ml.serverless_endpoints.get(name).auth_mode).lower() == "aad":
            return ""
        return str(ml.serverless_endpoints.get_keys(name).primary_key)


def probe(settings: Settings, name: str, bodies: Sequence[dict[str, Any]]) -> records.Smoke:
    """Ask an endpoint, and count what it did not answer."""
    found = find(azure_ml.client(settings), name)
    if found is None:
        raise InvalidInput(f"There is no serverless endpoint {name}: deploy its model again.")
    with Requests(f"{found.scoring_uri}{CHAT}", key=key(settings, name)) as requests:
        started = time.monotonic()
        answers = sample_requests.send(requests, bodies)
    good = [answer.latency_ms for answer in answers if answer.ok]
    return records.Smoke(
        requests=len(answers),
        failures=len(answers) - len(good),
        latency_ms_p50=round(statistics.median(good), 1) if good else None,
        seconds=round(time.monotonic() - started, 2),
    )


def delete(settings: Settings, model: records.Model, *, protected: Sequence[str]) -> list[str]:
    """Delete a model's endpoint, then the model: the service refuses the other order. Returns what is gone.

    Raises Refused for an endpoint in `protected`, AzureFailed when Azure refuses.
    """
    name, ml, gone = name_of(settings, model), azure_ml.client(settings), []
    if name in protected:
        raise Refused(f"{name} is live or the way back: switch or roll back first.")
    if find(ml, name) is not None:
        with azure_ml.explained(f"Deleting serverless endpoint {name}"), azure_ml.waiting(f"Deleting {name}"):
            ml.serverless_endpoints.begin_delete(name).result()
        gone.append(name)
    if not serverless_recipe.CATALOGUE.match(model.id):
        delete_model(settings, model)
        gone.append(f"{model.name}:{model.version}")
    return gone


def delete_model(settings: Settings, model: records.Model) -> None:
    """Over ARM: the SDK only archives. Raises Refused in our words when the service says that it is deployed."""
    try:
        _management(settings).resources.begin_delete_by_id(model.id, api_version=MODEL_VERSION).result()
    except HttpResponseError as error:
        if re.search(r"delete your model deployment", str(error)):
            raise Refused(
                f"Model {model.name}:{model.version} is still deployed, and the service deletes no such model: "
                "delete its endpoint first (`serverless delete` does both in order)."
            ) from error
        with azure_ml.explained(f"Deleting model {model.name}:{model.version}"):
            raise


def _management(settings: Settings) -> Any:
    from azure.mgmt.resource.resources import ResourceManagementClient

    return ResourceManagementClient(azure_ml.credential(), settings.subscription_id)


def _resource_id(settings: Settings, name: str) -> str:
    from scripts.routes.serverless import workspace_id

    return f"{workspace_id(settings)}/serverlessEndpoints/{name}"


def filters(settings: Settings, name: str) -> bool:
    """Whether Azure says that the content filter is on."""
    with azure_ml.explained(f"Reading the content filter of {name}"):
        found = _management(settings).resources.get_by_id(_resource_id(settings, name), api_version=FILTER_VERSION)
    safety = (found.properties or {}).get("contentSafety") or {}
    return str(safety.get("contentSafetyStatus", "Enabled")).lower() == "enabled"


def _set_filter(settings: Settings, name: str, tags: dict[str, str], *, content_filter: bool) -> None:
    """Over ARM, because the SDK's entity has no field for it."""
    resources, place = _management(settings).resources, _resource_id(settings, name)
    status = "Enabled" if content_filter else "Disabled"
    with azure_ml.explained(f"Setting the content filter of {name}"):
        found = resources.get_by_id(place, api_version=FILTER_VERSION)
        old = found.properties or {}
        kept = {each: old[each] for each in ("authMode", "modelSettings") if each in old}
        wanted = {
            "location": found.location,
            "tags": tags,
            "sku": {"name": "Consumption"},
            "properties": {**kept, "contentSafety": {"contentSafetyStatus": status}},
        }
        resources.begin_create_or_update_by_id(place, parameters=wanted, api_version=FILTER_VERSION).result()
