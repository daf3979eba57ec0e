"""`live`, `deploy` and `evaluate` for models that Microsoft serves, in the records of every other model.

An application has one kind of release: either its users are on colours or a record leads them to endpoints.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import environ
from typing import Any

from scripts import azure_ml, records
from scripts.endpoint import Endpoint
from scripts.errors import Refused
from scripts.live import unsettled
from scripts.serverless import endpoints, filters
from scripts.serverless.led import Led
from scripts.serverless.record import place, read
from scripts.settings import Settings

KEY = "ENDPOINT_KEY"


def live(settings: Settings) -> records.Live | None:
    """Where users are led; None where no record says so, and colours are to be looked at. Raises AzureFailed.

    While a rollout is under way, `stable` is its way back, wherever users are led.
    """
    found = Led(settings).record()
    if found is None:
        return None
    ml = azure_ml.client(settings)
    side, stand = found.live, endpoints.ours(settings, ml)
    stable, model = (side.endpoint, side.model) if side else ("", None)
    if side and (rollout := unsettled(settings, {side.endpoint: 100})) and rollout[0] != stable:
        stable = rollout[0]
        model = endpoints.model_of(ml, endpoints.need(ml, stable)) if stable else None
    return records.Live(
        endpoint=settings.endpoint,
        stable=stable,
        idle="",
        model=model,
        scoring_uri=side.uri if side else "",
        deployments={name: (each.tags or {}).get(endpoints.MODEL, "") for name, each in sorted(stand.items())},
    )


def check_kind(settings: Settings, model: records.Model) -> None:
    """Raises Refused for a model of the other kind than what users have now: one release cannot move between them."""
    mine, found = endpoints.served(model), read(place(settings))[0]
    what = f"{settings.endpoint} cannot be released to {model.name}:{model.version}"
    then = "give this model an environment of its own (another `endpoint` in its settings)"
    if not mine and found:
        leads = found.live.endpoint if found.live else "nobody"
        raise Refused(f"{what}: a record leads its users to serverless endpoints (now {leads}); {then}.")
    colours = Endpoint(settings)
    if mine and not found and colours.name in colours.all_names() and (traffic := colours.traffic()):
        raise Refused(f"{what}, which Microsoft serves: its users are on deployments with weights {traffic}; {then}.")


def deploy(
    settings: Settings,
    model: records.Model,
    smoke: Sequence[dict[str, Any]],
    *,
    first: bool = False,
    content_filter: bool = True,
) -> records.Deployment:
    """Give a model its endpoint and smoke-test it; nobody is led there, unless it is the `first` release.

    Raises Refused for users that are led somewhere already or are on colours, AzureFailed as Azure does.
    """
    check_kind(settings, model)
    front = Led(settings)
    if first and (traffic := front.traffic()):
        raise Refused(f"--first is for an application that is led nowhere, and {settings.endpoint} has {traffic}.")
    done = endpoints.deploy_model(settings, model, smoke, content_filter=content_filter)
    weights = front.set_traffic({done.deployment: 100}, {"stable": done.deployment}) if first else front.traffic()
    return done.model_copy(update={"weight": weights.get(done.deployment, 0)})


@contextmanager
def asked(settings: Settings, name: str) -> Iterator[dict[str, str]]:
    """What an evaluation asks of an endpoint: address, digest and how it serves. While this lasts, and in this process
    alone, its key is where the flow looks for it."""
    ml = azure_ml.client(settings)
    found = endpoints.need(ml, name)
    if secret := endpoints.key(settings, name):
        environ[KEY] = secret
    try:
        yield {
            "uri": endpoints.uri(found),
            "model_digest": endpoints.model_of(ml, found).digest,
            # An answer that a filter let through is no answer of an endpoint with another filter.
            "serving": f"serverless {name}, filter {filters.on(settings, name)}",
            "shape": "openai",
        }
    finally:
        environ.pop(KEY, None)
