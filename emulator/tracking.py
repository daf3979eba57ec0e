"""MLflow for the workspace: a pass-through to a plain `mlflow server` that makes a job's run be named as the job is.

The service names the run of a job after the job; a plain server makes up its own ids. So ids are translated in both
directions, and artifact URIs are rewritten so that azureml-mlflow stores artifacts beside the job's other outputs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import httpx
from starlette.responses import JSONResponse, Response

from emulator.context import Emulator
from emulator.errors import ArmError
from emulator.routing import ML, WORKSPACE, Call, route
from emulator.runtime import Runtime, on_start, runtime_of
from emulator.store import Resource

RUN_KEYS = frozenset({"run_id", "run_uuid", "run_ids", "parent_run_id", "source_run_id"})
RUN_TAGS = ("mlflow.parentRunId", "mlflow.rootRunId")
MLFLOW_STATUS = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}
SECONDS = 60.0
log = logging.getLogger(__name__)


def translate(value: Any, names: Mapping[str, str]) -> Any:
    """A copy of a JSON value with run ids replaced by `names` wherever a run id stands, and nowhere else."""
    if isinstance(value, list):
        return [translate(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _translate_entry(key, item, value, names) for key, item in value.items()}


def _translate_entry(key: str, item: Any, entry: Mapping[str, Any], names: Mapping[str, str]) -> Any:
    if key in RUN_KEYS or (key == "value" and entry.get("key") in RUN_TAGS):
        if isinstance(item, str):
            return names.get(item, item)
        if isinstance(item, list) and all(isinstance(name, str) for name in item):
            return [names.get(name, name) for name in item]
    if key == "filter" and isinstance(item, str):
        return re.sub(r"(['\"])([^'\"]*)\1", lambda found: found[1] + names.get(found[2], found[2]) + found[1], item)
    return translate(item, names)


def rewrite_artifacts(value: Any, base: str) -> None:
    """Point every run's `artifact_uri` in a (translated) answer into the workspace at `base`; in place."""
    if isinstance(value, list):
        for item in value:
            rewrite_artifacts(item, base)
    elif isinstance(value, dict):
        if "artifact_uri" in value and "run_id" in value:
            value["artifact_uri"] = f"{base}/experiments/{value.get('experiment_id')}/runs/{value['run_id']}/artifacts"
        for item in value.values():
            rewrite_artifacts(item, base)


@route(
    "POST",
    ML,
    r"/mlflow/v[12]\.0" + WORKSPACE + r"/*api/2\.0/(?:preview/)?mlflow/runs/log-batch-async",
    audience="arm|ml",
)
async def log_batch_async(call: Call) -> Response:
    """Azure's own addition to the API, done at once: no tracking id in the answer means nothing is left to wait for."""
    answer = await _forward(call, "api/2.0/mlflow/runs/log-batch")
    return JSONResponse({"batch_tracking_id": ""}) if answer.status_code == 200 else answer


@route(
    "GET|POST|PUT|PATCH|DELETE",
    ML,
    r"/mlflow/v[12]\.0" + WORKSPACE + r"/*(?P<rest>(?:api|ajax-api|version).*)",
    audience="arm|ml",
)
async def mlflow(call: Call) -> Response:
    return await _forward(call, call.args["rest"])


async def _forward(call: Call, path: str) -> Response:
    runtime = runtime_of(call.emulator)
    call.emulator.store.need(call.args["wsid"], "Workspace")
    server = await asyncio.to_thread(call.emulator.tracking.address)
    ids = runtime.runs_of(call.args["wsid"])
    query: list[tuple[str, Any]] = [
        (key, ids.of_job.get(value, value) if key in RUN_KEYS else value)
        for key, value in urllib.parse.parse_qsl(call.raw_query, keep_blank_values=True)
    ]
    body = _translated(call.body, ids.of_job)
    answer = await runtime.http().request(
        call.method,
        f"{server}/{path}",
        params=httpx.QueryParams(query),
        content=body,
        headers={"content-type": call.headers.get("content-type", "application/json")},
        timeout=SECONDS,
    )
    content, kind = answer.content, answer.headers.get("content-type")
    if kind and kind.startswith("application/json") and content:
        value = translate(answer.json(), ids.of_run)
        rewrite_artifacts(value, f"azureml://{call.host}/mlflow/v2.0{call.args['wsid']}")
        content = json.dumps(value).encode()
    return Response(content, answer.status_code, media_type=kind)


def _translated(body: bytes, names: Mapping[str, str]) -> bytes:
    try:
        return json.dumps(translate(json.loads(body), names)).encode()
    except ValueError:  # empty, or not JSON: none of ours
        return body


def _api(emulator: Emulator, method: str, call: str, **arguments: Any) -> dict[str, Any]:
    """One call of the plain server from a job's thread; httpx.HTTPError as it comes."""
    url = f"{emulator.tracking.address()}/api/2.0/mlflow/{call}"
    with httpx.Client(trust_env=False, timeout=SECONDS) as client:
        answer = client.request(method, url, **arguments)
        answer.raise_for_status()
        return dict(answer.json())


def experiment_id(emulator: Emulator, name: str) -> str:
    """The id of the experiment with this name; it is made when there is none."""
    try:
        found = _api(emulator, "GET", "experiments/get-by-name", params={"experiment_name": name})
        return str(found["experiment"]["experiment_id"])
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 404:
            raise
    return str(_api(emulator, "POST", "experiments/create", json={"name": name})["experiment_id"])


def workspace_of(job: Resource) -> str:
    """ARM id of a job's workspace."""
    return str(job["id"]).rpartition("/jobs/")[0]


def create_run(runtime: Runtime, job: Resource) -> str:
    """Make the run that the job's metrics go to and remember whose it is; returns the plain server's run id."""
    properties = job["properties"]
    tags = {"mlflow.user": "local", "mlflow.source.type": "JOB", "azureml.job": job["name"]}
    runtime.emulator.tracking.address()  # may take seconds, the first time: before others are made to wait
    with runtime.lock:  # or two first jobs of an experiment would both make it
        experiment = experiment_id(runtime.emulator, properties["experimentName"])
    request = {
        "experiment_id": experiment,
        "start_time": int(time.time() * 1000),
        "run_name": properties["displayName"],
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    run = _api(runtime.emulator, "POST", "runs/create", json=request)["run"]["info"]["run_id"]
    runtime.runs_of(workspace_of(job)).remember(job["name"], run)
    return str(run)


def last_metric(runtime: Runtime, job: Resource, metric: str) -> float | None:
    """The last value that a job's run logged of a metric; None when it logged none."""
    run = job.get("_mlflow_run")
    if run is None:
        return None
    data = _api(runtime.emulator, "GET", "runs/get", params={"run_id": run})["run"]["data"]
    return next((float(each["value"]) for each in data.get("metrics") or [] if each["key"] == metric), None)


def end_run(runtime: Runtime, job_id: str, status: str) -> None:
    """Close the job's run with the job's status. The job has ended whatever MLflow says, so trouble is only logged."""
    wsid, _, name = job_id.rpartition("/jobs/")
    run = runtime.runs_of(wsid).of_job.get(name)
    if run is None:
        return
    request = {"run_id": run, "status": MLFLOW_STATUS.get(status, "FAILED"), "end_time": int(time.time() * 1000)}
    try:
        _api(runtime.emulator, "POST", "runs/update", json=request)
    except (httpx.HTTPError, ArmError) as error:
        log.warning("the MLflow run of job %s could not be closed: %r", name, error)


@on_start
def remember_runs(runtime: Runtime) -> None:
    for job in runtime.emulator.store.find(r".*/workspaces/[^/]+/jobs/[^/]+"):
        if run := job.get("_mlflow_run"):
            runtime.runs_of(workspace_of(job)).remember(job["name"], run)
