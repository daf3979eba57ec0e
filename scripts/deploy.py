"""`deploy`: put a model on an idle colour and prove that it answers, before it gets any traffic."""

import json
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts import autoscale, azure_ml, digests, records, room, sample_requests, tiers
from scripts.endpoint import Answer, Endpoint, Requests
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.live import colours
from scripts.provision import environment_version, registered
from scripts.rollout.state import Phase, RolloutState
from scripts.rollout.store import BlobStore
from scripts.settings import Collect, Probe, Settings

CODE = Path("serving")
# Tags that say at which path and in which shape a deployment answers, and what none of them means.
ADDRESS = {"route": "/score", "shape": "openai"}
OF_ITS_OWN = "Give this tier an endpoint of its own (`endpoint` in the settings)."
EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Exit|Failed)\b: .")  # the last line of a traceback


def deploy(
    settings: Settings,
    model: records.Model,
    colour: str | None,
    smoke: Sequence[dict[str, Any]],
    *,
    first: bool = False,
    variables: Mapping[str, str] | None = None,
    over_way_back: bool = False,
) -> records.Deployment:
    """Create deployment `colour` (None: the idle one), send it the `smoke` bodies by direct header.

    A deployment that is there with the same model, code and settings is kept, so that running this again costs nothing.
    A `first` release gets all traffic.

    Raises Refused, before anything is made, for a colour that is live or needed by a rollout (`over_way_back`: though
    it is the way back of the last one), for a model that the tier does not take, an environment that was never
    registered and instances that the quota has no room for; InvalidInput for a size that the tier does not run on or a
    variable that its server does not read; AzureFailed when it does not start or does not answer.
    """
    tiers.check_size(settings)
    tiers.check_artifact(settings, model)
    if unread := tiers.unread(settings.serving.tier, variables or ()):
        raise InvalidInput(f"--variable: only our own server reads {unread[0]}, not that of {settings.serving.tier}.")
    endpoint = Endpoint(settings)
    live = endpoint.traffic()
    colour = colour or colours(settings, endpoint)[1]
    wanted = _deployment(settings, model, colour, variables or {})
    deployed = endpoint.deployments()
    there = deployed.get(colour)
    if why := other_address(settings, {name: deployed[name] for name in live if name in deployed and name != colour}):
        raise Refused(why)
    kept = there is not None and same(there, wanted.tags["release"])
    if live.get(colour) and not kept:
        raise Refused(f"Deployment {colour} has {live[colour]}% of the traffic: deploy to the idle colour.")
    if first and live:
        raise Refused(f"--first is for an endpoint without traffic, and {settings.endpoint} has {live}.")
    if not kept:
        held = BlobStore(settings).read()  # also shows, before anything is made, that a rollout could keep its state
        if why := needed_by(held.state if held else None, colour, records.now(), over_way_back=over_way_back):
            raise Refused(why)
        if settings.serving_environment:
            with azure_ml.explained("Looking for the environment"):
                registered(azure_ml.client(settings), settings.serving_environment)
        if there is None or there.instance_type != settings.serving.instance_type:  # else it has its vCPUs already
            room.check(
                settings, f"Deployment {colour}", settings.serving.instance_type, settings.serving.instance_count
            )
        try:
            endpoint.create_deployment(wanted)
        except AzureFailed as error:
            raise AzureFailed(f"{error}{last_words(endpoint, colour, error)}") from error
    with Requests(endpoint.scoring_uri(), shape=endpoint.shape) as requests:
        started = time.monotonic()
        answers = sample_requests.send(requests, smoke, deployment=colour)
        checked = _smoke(answers, time.monotonic() - started)
    if checked.failures or not checked.requests:
        raise AzureFailed(
            f"Deployment {colour} failed {checked.failures} of {checked.requests} smoke requests "
            f"(HTTP {sorted({answer.status for answer in answers if not answer.ok})}); it gets no traffic."
        )
    if first:
        live = endpoint.set_traffic({colour: 100}, {"stable": colour})
        autoscale.settle(settings, rolling_out=False)
    return records.Deployment(
        endpoint=settings.endpoint,
        deployment=colour,
        model=f"azureml:{model.name}:{model.version}",
        model_digest=model.digest,
        instance_type=settings.serving.instance_type,
        tier=settings.serving.tier,
        weight=live.get(colour, 0),
        kept=kept,
        smoke=checked,
    )


def other_address(settings: Settings, live: Mapping[str, Any]) -> str:
    """Why the tier cannot stand beside what is `live`: an endpoint's requests have one path, whoever answers them."""
    mine = address(settings)
    for name, deployment in live.items():
        theirs = {tag: (deployment.tags or {}).get(tag, usual) for tag, usual in ADDRESS.items()}
        if theirs["route"] != mine["route"]:
            return (
                f"Deployment {name} answers at {theirs['route']} and the tier {settings.serving.tier} at "
                f"{mine['route']}: traffic cannot be split between two addresses. {OF_ITS_OWN}"
            )
        if theirs != mine:
            return (
                f"Deployment {name} takes requests of shape {theirs['shape']} and the tier {settings.serving.tier} of "
                f"shape {mine['shape']}: whoever asks cannot know which colour will answer. {OF_ITS_OWN}"
            )
    return ""


def address(settings: Settings) -> dict[str, str]:
    """The tags `ADDRESS` of a deployment with these settings."""
    return {"route": settings.scoring_path, "shape": settings.request_shape}


def needed_by(found: RolloutState | None, colour: str, now: datetime, *, over_way_back: bool = False) -> str:
    """Why nothing may be deployed over `colour` now: a rollout is moving it, or it is the way back of the last one."""
    if found is None or colour not in (found.stable, found.candidate):
        return ""
    if found.under_way:
        return f"A rollout of {found.candidate} is under way ({found.phase.value}), and {colour} is part of it."
    until = found.retain_until
    if found.phase is Phase.PROMOTED and colour == found.stable and until and now < until and not over_way_back:
        return (
            f"Deployment {colour} is the way back from {found.candidate}, "
            f"promoted at {found.since:%Y-%m-%d %H:%M} UTC, until {until:%Y-%m-%d %H:%M} UTC (retention_hours): "
            "wait, or give it up with --over-way-back."
        )
    return ""


def same(deployment: Any, release: str) -> bool:
    """Whether a deployment stands and was made of the same parts."""
    return deployment.provisioning_state == "Succeeded" and (deployment.tags or {}).get("release") == release


def release_digest(settings: Settings, model: records.Model, variables: Mapping[str, str]) -> str:
    """What a deployment is made of: model, code, environment, settings, variables."""
    # How many instances there may be changes nothing about what each of them answers.
    shape = settings.serving.model_dump_json(exclude={"scale"}) + json.dumps(dict(variables), sort_keys=True)
    image = settings.serving_environment
    environment = environment_version(image) if image else ""
    code = digests.of_folder(CODE) if settings.our_server else ""
    return digests.of_values(model.id, model.digest, code, environment, shape)[:16]


def last_words(endpoint: Endpoint, colour: str, error: AzureFailed) -> str:
    """ " Its log says: …" of a deployment that did not start.

    The log of one that Azure refused at once would be of what stood there before.
    """
    if (getattr(error.__cause__, "status_code", None) or 0) >= 400:
        return ""
    said = why_it_died(endpoint.logs(colour, lines=100))
    return f" Its log says: {said}" if said else ""


def why_it_died(log: str) -> str:
    """The last exception in a server's log (not the server's own wrapper around it), else its last line, else ""."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    raised = [line for line in lines if EXCEPTION.match(line) and "UserScriptException" not in line]
    return (raised or lines or [""])[-1]


def _smoke(answers: Sequence[Answer], seconds: float) -> records.Smoke:
    good = [answer.latency_ms for answer in answers if answer.ok]
    return records.Smoke(
        requests=len(answers),
        failures=len(answers) - len(good),
        latency_ms_p50=round(statistics.median(good), 1) if good else None,
        seconds=round(seconds, 2),
    )


def _deployment(settings: Settings, model: records.Model, colour: str, variables: Mapping[str, str]) -> Any:
    """The deployment as its tier has it: our code in an environment, a container that brings its own server, or a model
    in MLflow's form, for which Azure brings both."""
    from azure.ai.ml.entities import CodeConfiguration, ManagedOnlineDeployment, OnlineRequestSettings

    serving, image = settings.serving, settings.serving_environment
    code = CodeConfiguration(code=str(CODE), scoring_script="score.py") if settings.our_server else None
    return ManagedOnlineDeployment(
        name=colour,
        endpoint_name=settings.endpoint,
        model=f"azureml:{model.name}:{model.version}",
        environment=f"azureml:{image.name}:{environment_version(image)}" if image else None,
        code_configuration=code,
        model_mount_path=serving.model_mount_path,
        egress_public_network_access=serving.egress.capitalize(),  # as it is on the wire
        instance_type=serving.instance_type,
        instance_count=serving.instance_count,
        environment_variables={
            **(_for_ours(settings, model) if image else serving.environment_variables),
            **variables,
        },
        data_collector=_collector(serving.collect),
        request_settings=OnlineRequestSettings(
            max_concurrent_requests_per_instance=serving.max_concurrent_requests,
            request_timeout_ms=serving.request_timeout_ms,
        ),
        liveness_probe=_probe(serving.probe_initial_delay_seconds, serving.liveness),
        readiness_probe=_probe(serving.probe_initial_delay_seconds, serving.readiness),
        tags={
            "model_digest": model.digest,
            "release": release_digest(settings, model, variables),
            "tier": serving.tier,
            **address(settings),
        },
    )


def _for_ours(settings: Settings, model: records.Model) -> dict[str, str]:
    """What our own server and start script read."""
    serving = settings.serving
    return {
        # The server gives up when the gateway does, unless the settings say otherwise.
        "SCORING_TIMEOUT_MS": str(serving.request_timeout_ms),
        **serving.environment_variables,
        **serving.filter_variables,
        # What was registered and judged: the server does not start with anything else.
        **({"MODEL_DIGEST": model.digest} if model.digest and not model.lineage.route else {}),
        # The server asks for this too, so that no slip in the collector's settings can begin to keep prompts.
        **({"COLLECT_CONTENT": "true"} if serving.collect.content else {}),
        **({} if settings.our_server else _container(settings)),
    }


def _container(settings: Settings) -> dict[str, str]:
    """What serving/container/start.py reads: nobody can give the command of a managed container arguments."""
    serving, image = settings.serving, settings.serving_environment
    routes = image.routes if image else None
    return {
        "SERVED_MODEL_NAME": settings.model,
        "MODEL_ARTIFACT": serving.artifact,
        "MODEL_ROOT": serving.model_mount_path or "",
        "SERVER_PORT": str(routes.port if routes else ""),
        "SERVER_ARGUMENTS": json.dumps(serving.arguments, sort_keys=True),
    }


def _probe(initial_delay: int, probe: Probe) -> Any:
    from azure.ai.ml.entities import ProbeSettings

    return ProbeSettings(
        initial_delay=initial_delay,
        period=probe.period_seconds,
        timeout=probe.timeout_seconds,
        failure_threshold=probe.failure_threshold,
        success_threshold=probe.success_threshold,
    )


def _collector(wanted: Collect) -> Any | None:
    """The collections that are on. Azure registers a data asset for each one named, so the others are not named."""
    from azure.ai.ml.entities import DataCollector, DeploymentCollection

    on = {name: DeploymentCollection(enabled="true") for name, is_on in wanted.collections.items() if is_on}
    return DataCollector(collections=on, rolling_rate="hour", sampling_rate=wanted.sampling) if on else None
