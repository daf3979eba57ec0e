"""The facts behind `reap`: who has traffic, since when, what a rollout is doing, which clusters have jobs.

What old releases leave behind is looked for in leftovers_facts.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from scripts import azure_ml, provision, records, training_job
from scripts.cost import prices
from scripts.errors import InvalidInput
from scripts.operate import azure_facts, last_rollout, leftovers_facts
from scripts.operate.reap_things import Colour, Compute, Endpoint, Facts, Serverless
from scripts.serverless import endpoints, protected
from scripts.serverless.led import serving
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

CLUSTERS = ("amlcompute",)
INSTANCES = ("computeinstance",)
DEPLOY_TAG = "release"  # scripts/deploy.py writes it on every deployment
COLOUR_TAGS = ("stable", "rollout-stable", "rollout-candidate")  # scripts/rollout/state.py writes them on the endpoint


def gather(settings: Settings, config: Path | None, *, storage: bool = True) -> Facts:
    """Raises AzureFailed as Azure does, InvalidInput when the environment's own endpoint is not there.

    `storage`: look through the blobs too, of which there may be many.
    """
    ml = azure_ml.client(settings)
    with azure_ml.explained(f"Looking for what is idle in {settings.workspace}"):
        online = {str(each.name): each for each in ml.online_endpoints.list()}
        if settings.endpoint not in online:
            raise InvalidInput(
                f"Workspace {settings.workspace} has no endpoint {settings.endpoint}, so all others would look "
                "orphaned: mend `endpoint` in the settings, or `provision` first."
            )
        deployed = {name: list(ml.online_deployments.list(name)) for name in online}
        named = frozenset().union(*map(leftovers_facts.named, online.values()))
        mine = online.pop(settings.endpoint)
        jobs, rollout = list(azure_facts.jobs(ml)), last_rollout.read(settings)
        return Facts(
            endpoint=_endpoint(settings, mine, ()),
            train=provision.train_tag(settings)[provision.TRAIN_TAG],
            ours=configured(settings, config),
            colours=tuple(_colour(ml, each) for each in deployed[settings.endpoint]),
            rollout=rollout,
            others=tuple(_endpoint(settings, each, deployed[name]) for name, each in online.items()),
            computes=_computes(ml, jobs),
            serverless=_serverless(ml, settings),
            models=leftovers_facts.models(ml, settings, deployed, jobs),
            named=named | (rollout.models if rollout else frozenset()),
            checkpoints=leftovers_facts.checkpoints(ml, settings, jobs) if storage else (),
            ended=tuple(training_job.ENDED),
            hourly=_hourly(settings),
            currency=prices.load().currency,
        )


def configured(settings: Settings, config: Path | None) -> frozenset[str]:
    """The endpoints of this environment and of its neighbours: no train may clear away another environment's."""
    names = {settings.endpoint}
    for path in config.parent.glob("*.y*ml") if config else ():
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            why = " ".join(str(error).split())
            raise InvalidInput(f"{path}: not readable ({why}), so its endpoint might look orphaned: mend it.") from None
        if isinstance(values, dict) and isinstance(values.get("endpoint"), str):
            names.add(values["endpoint"])
    return frozenset(names)


def _endpoint(settings: Settings, endpoint: Any, deployments: Any) -> Endpoint:
    # Only the orphans are judged as a whole; their age is that of the youngest thing in them.
    tags = endpoint.tags or {}
    times = [azure_facts.endpoint_changed(settings, endpoint), *map(azure_facts.changed, deployments)]
    return Endpoint(
        name=str(endpoint.name),
        traffic=dict(endpoint.traffic or {}),
        mirror=dict(endpoint.mirror_traffic or {}),
        changed_at=None if None in times else max(time for time in times if time),
        state=azure_facts.state(endpoint),
        train=str(tags.get(provision.TRAIN_TAG, "")),
        named=frozenset(str(tags[name]).lower() for name in COLOUR_TAGS if tags.get(name)),
        instances=sum(int(each.instance_count or 0) for each in deployments),
    )


def _serverless(ml: "MLClient", settings: Settings) -> tuple[Serverless, ...]:
    kept = protected.names(settings)
    found = []
    for each in ml.serverless_endpoints.list():
        tags, context = each.tags or {}, each.system_data
        name, _, version = tags.get(endpoints.MODEL, "").partition(":")
        model = azure_facts.model(ml, name, version) if endpoints.CUSTOM.search(str(each.model_id)) else None
        found.append(
            Serverless(
                name=str(each.name),
                application=tags.get(endpoints.APPLICATION, ""),
                changed_at=azure_facts.latest(context),
                state=serving(each).provisioning_state,
                model=tags.get(endpoints.MODEL, ""),
                verdict=str((model.tags or {}).get("verdict", "")) if model else "",
                protected=str(each.name) in kept,
            )
        )
    return tuple(found)


def _colour(ml: "MLClient", deployment: Any) -> Colour:
    model = azure_facts.model(ml, *azure_facts.model_of(deployment))
    return Colour(
        name=str(deployment.name),
        changed_at=azure_facts.changed(deployment),
        state=azure_facts.state(deployment),
        verdict=str((model.tags or {}).get("verdict", "")) if model else "",
        shape=str(deployment.instance_type),
        ours=bool((deployment.tags or {}).get(DEPLOY_TAG)),
        instances=int(deployment.instance_count or 0),
    )


def _computes(ml: "MLClient", jobs: Sequence[Any]) -> tuple[Compute, ...]:
    """Clusters and instances. A job under way that does not say where it runs may be on any of them."""
    under_way = [job for job in jobs if training_job.status(job) not in training_job.ENDED]
    on = {str(getattr(job, "compute", None) or "").rsplit("/", 1)[-1].rsplit(":", 1)[-1].lower() for job in under_way}
    return tuple(
        Compute(
            name=str(each.name),
            cluster=str(each.type).lower() in CLUSTERS,
            size=str(getattr(each, "size", None) or ""),
            min_instances=int(getattr(each, "min_instances", None) or 0),
            busy=str(each.name).lower() in on or "" in on,
        )
        for each in ml.compute.list()
        if str(each.type).lower() in CLUSTERS + INSTANCES
    )


def _hourly(settings: Settings) -> dict[str, float]:
    """Prices of sizes in this region that are known; the others are told in instance-hours alone."""
    table, today = prices.load(), records.now().date()
    rates = (prices.rate(table, each.size, settings.location, "dedicated", today) for each in table.prices)
    return {rate.size.lower(): rate.per_hour for rate in rates if rate.per_hour}
