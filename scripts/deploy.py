"""`deploy`: put a model on an idle colour and prove that it answers, before it gets any traffic."""

import json
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts import digests, records, room, sample_requests
from scripts.endpoint import Answer, Endpoint, Requests
from scripts.errors import AzureFailed, Refused
from scripts.live import colours
from scripts.provision import environment_version
from scripts.rollout.state import Phase, RolloutState
from scripts.rollout.store import BlobStore
from scripts.settings import Collect, Settings

CODE = Path("serving")
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
    it is the way back of the last one) and for instances that the quota has no room for; AzureFailed when it does not
    start or does not answer.
    """
    endpoint = Endpoint(settings)
    live = endpoint.traffic()
    colour = colour or colours(settings, endpoint)[1]
    wanted = _deployment(settings, model, colour, variables or {})
    there = endpoint.deployments().get(colour)
    kept = there is not None and same(there, wanted.tags["release"])
    if live.get(colour) and not kept:
        raise Refused(f"Deployment {colour} has {live[colour]}% of the traffic: deploy to the idle colour.")
    if first and live:
        raise Refused(f"--first is for an endpoint without traffic, and {settings.endpoint} has {live}.")
    if not kept:
        held = BlobStore(settings).read()  # also shows, before anything is made, that a rollout could keep its state
        if why := needed_by(held.state if held else None, colour, records.now(), over_way_back=over_way_back):
            raise Refused(why)
    if not kept:
        if there is None or there.instance_type != settings.serving.instance_type:  # else it has its vCPUs already
            room.check(
                settings, f"Deployment {colour}", settings.serving.instance_type, settings.serving.instance_count
            )
        try:
            endpoint.create_deployment(wanted)
        except AzureFailed as error:
            said = why_it_died(endpoint.logs(colour, lines=100))
            raise AzureFailed(f"{error}" + (f" Its log says: {said}" if said else "")) from error
    with Requests(endpoint.scoring_uri()) as requests:
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
    return records.Deployment(
        endpoint=settings.endpoint,
        deployment=colour,
        model=f"azureml:{model.name}:{model.version}",
        model_digest=model.digest,
        instance_type=settings.serving.instance_type,
        weight=live.get(colour, 0),
        kept=kept,
        smoke=checked,
    )


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
    shape = settings.serving.model_dump_json() + json.dumps(dict(variables), sort_keys=True)
    environment = environment_version(settings.serving_environment)
    return digests.of_values(model.id, model.digest, digests.of_folder(CODE), environment, shape)[:16]


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
    from azure.ai.ml.entities import (
        CodeConfiguration,
        ManagedOnlineDeployment,
        OnlineRequestSettings,
        ProbeSettings,
    )

    serving, image = settings.serving, settings.serving_environment
    return ManagedOnlineDeployment(
        name=colour,
        endpoint_name=settings.endpoint,
        model=f"azureml:{model.name}:{model.version}",
        environment=f"azureml:{image.name}:{environment_version(image)}",
        code_configuration=CodeConfiguration(code=str(CODE), scoring_script="score.py"),
        instance_type=serving.instance_type,
        instance_count=serving.instance_count,
        environment_variables={
            **serving.environment_variables,
            **serving.filter_variables,
            # The server asks for this too, so that no slip in the collector's settings can begin to keep prompts.
            **({"COLLECT_CONTENT": "true"} if serving.collect.content else {}),
            **variables,
        },
        data_collector=_collector(serving.collect),
        request_settings=OnlineRequestSettings(
            max_concurrent_requests_per_instance=serving.max_concurrent_requests,
            request_timeout_ms=serving.request_timeout_ms,
        ),
        liveness_probe=ProbeSettings(initial_delay=serving.probe_initial_delay_seconds),
        readiness_probe=ProbeSettings(initial_delay=serving.probe_initial_delay_seconds),
        tags={"model_digest": model.digest, "release": release_digest(settings, model, variables)},
    )


def _collector(wanted: Collect) -> Any | None:
    """The collections that are on. Azure registers a data asset for each one named, so the others are not named."""
    from azure.ai.ml.entities import DataCollector, DeploymentCollection

    on = {name: DeploymentCollection(enabled="true") for name, is_on in wanted.collections.items() if is_on}
    return DataCollector(collections=on, rolling_rate="hour", sampling_rate=wanted.sampling) if on else None
