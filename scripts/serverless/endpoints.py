"""Serverless endpoints: deploy a model to one, ask it, delete it in the order that the service wants."""

import re
import statistics
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from scripts import azure_ml, digests, records, sample_requests
from scripts.endpoint import Requests
from scripts.endpoint import model_of as registered
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.routes import serverless_recipe
from scripts.serverless import filters
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

CHAT = "/v1/chat/completions"
SIZE = "serverless"  # where other deployments name the size of their instances
APPLICATION, DIGEST, MODEL, FILTER = "application", "model_digest", "model", "content_filter"  # tags
CUSTOM = re.compile(r"/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)/?$")  # how the id of a custom model ends
MODEL_VERSION = "2023-08-01-preview"


def base_model(recipe: str) -> records.Model:
    """The catalogue model that a recipe starts from: the baseline of a first release."""
    return _catalogue_model(serverless_recipe.of_name(recipe).model)


def _catalogue_model(identity: str) -> records.Model:
    name, version = identity.split("/")[-3::2]
    return records.Model(
        name=name,
        version=version,
        id=identity,
        digest=digests.of_values(identity),
        path=identity,
        lineage=records.Lineage(),
    )


def served(model: records.Model) -> bool:
    """Whether Microsoft serves the model and we cannot: its weights are not ours."""
    return model.lineage.route == "serverless" or bool(serverless_recipe.CATALOGUE.match(model.id))


def name_of(settings: Settings, digest: str) -> str:
    """An endpoint is named by its model's digest, so that a second `deploy` finds it. Region-wide: 52 characters."""
    return f"{settings.endpoint[:43]}-{digest[:8]}"


def is_name(settings: Settings, name: str) -> bool:
    """Whether a deployment's name is that of such an endpoint; colours are called otherwise."""
    return bool(re.fullmatch(re.escape(settings.endpoint[:43]) + "-[0-9a-f]{8}", name))


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
    ml, name = azure_ml.client(settings), name_of(settings, model.digest)
    found = find(ml, name)
    kept = found is not None and str(found.provisioning_state).lower() == "succeeded"
    tags = {
        APPLICATION: settings.endpoint,
        DIGEST: model.digest,
        MODEL: f"{model.name}:{model.version}",
        FILTER: str(content_filter).lower(),
    }
    if not kept:
        what = f"Creating serverless endpoint {name}"
        with azure_ml.explained(what), azure_ml.waiting(what):
            wanted = ServerlessEndpoint(name=name, model_id=model_id(ml, settings, model), tags=tags)
            ml.serverless_endpoints.begin_create_or_update(wanted).result()
    if filters.on(settings, name) != content_filter:
        filters.switch(settings, name, tags, content_filter=content_filter)
    if filters.on(settings, name) != content_filter:
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


def need(ml: "MLClient", name: str) -> Any:
    """Raises InvalidInput when there is no such endpoint."""
    found = find(ml, name)
    if found is None:
        raise InvalidInput(f"There is no serverless endpoint {name}: run `python -m scripts deploy` for its model.")
    return found


def ours(settings: Settings, ml: "MLClient") -> dict[str, Any]:
    """The endpoints that this environment's `deploy` made, by name."""
    with azure_ml.explained("Listing the serverless endpoints"):
        found = list(ml.serverless_endpoints.list())
    return {str(each.name): each for each in found if (each.tags or {}).get(APPLICATION) == settings.endpoint}


def model_of(ml: "MLClient", found: Any) -> records.Model:
    """The model behind an endpoint: Azure's word, but for a catalogue model's version, which only our tag has.

    Raises InvalidInput for an endpoint that `deploy` did not make.
    """
    if named := serverless_recipe.CATALOGUE.match(str(found.model_id)):
        _, _, version = (found.tags or {}).get(MODEL, "").partition(":")
        return _catalogue_model(f"{named[0]}/versions/{version}")
    custom = CUSTOM.search(str(found.model_id))
    if custom is None:
        raise InvalidInput(f"Endpoint {found.name} serves {found.model_id}, which is no model of this workspace.")
    with azure_ml.explained(f"Reading the model of {found.name}"):
        return registered(ml.models.get(custom["name"], custom["version"]))


def uri(found: Any) -> str:
    """Where users ask an endpoint."""
    return f"{found.scoring_uri}{CHAT}"


def requests(settings: Settings, name: str) -> Requests:
    """The way to ask an endpoint, with its key. Raises InvalidInput when it is not there."""
    found = need(azure_ml.client(settings), name)
    return Requests(uri(found), key=key(settings, name))


def key(settings: Settings, name: str) -> str:
    """The endpoint's key, fetched anew each time and kept nowhere; "" where it takes Entra tokens alone."""
    ml = azure_ml.client(settings)
    with azure_ml.explained(f"Fetching the key of {name}"):
        if str(ml.serverless_endpoints.get(name).auth_mode).lower() == "aad":
            return ""
        return str(ml.serverless_endpoints.get_keys(name).primary_key)


def probe(settings: Settings, name: str, bodies: Sequence[dict[str, Any]]) -> records.Smoke:
    """Ask an endpoint, and count what it did not answer."""
    with requests(settings, name) as asking:
        started = time.monotonic()
        answers = sample_requests.send(asking, bodies)
    good = [answer.latency_ms for answer in answers if answer.ok]
    return records.Smoke(
        requests=len(answers),
        failures=len(answers) - len(good),
        latency_ms_p50=round(statistics.median(good), 1) if good else None,
        seconds=round(time.monotonic() - started, 2),
    )


def delete(settings: Settings, model: records.Model, *, protected: Collection[str]) -> list[str]:
    """Delete a model's endpoint, then the model: the service refuses the other order. Returns what is gone.

    Raises Refused for an endpoint in `protected`, AzureFailed when Azure refuses.
    """
    name, ml, gone = name_of(settings, model.digest), azure_ml.client(settings), []
    if name in protected:
        raise Refused(f"{name} is live or the way back, or a rollout is under way with it: it stays.")
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
        filters.management(settings).resources.begin_delete_by_id(model.id, api_version=MODEL_VERSION).result()
    except HttpResponseError as error:
        if re.search(r"delete your model deployment", str(error)):
            raise Refused(
                f"Model {model.name}:{model.version} is still deployed, and the service deletes no such model: "
                "delete its endpoint first (`serverless delete` does both in order)."
            ) from error
        with azure_ml.explained(f"Deleting model {model.name}:{model.version}"):
            raise
