"""Run history: what `jobs.stream` and `jobs.download` read, where azureml-mlflow puts artifacts, service discovery."""

from __future__ import annotations

import re
import uuid
from typing import Any

from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.models_from_jobs import ARTIFACT_FOLDER, ARTIFACT_STORE, datastore_uri
from emulator.routing import ML, WORKSPACE, Call, route
from emulator.runtime import runtime_of
from emulator.storage import container_of
from emulator.store import Resource

HISTORY = r"/(?:history|artifact)/v[12]\.0" + WORKSPACE
RUN = HISTORY + r"/(?:experiments|experimentids)/(?P<experiment>[^/]+)/runs/(?P<run>[^/]+)"
LOG_FOLDERS = ("user_logs", "system_logs", "azureml-logs")
# How run history spells the types of outputs (the resources say uri_folder, custom_model …).
OUTPUT_TYPES = {
    "uri_file": "UriFile",
    "uri_folder": "UriFolder",
    "mltable": "MLTable",
    "custom_model": "CustomModel",
    "mlflow_model": "MLFlowModel",
    "triton_model": "TritonModel",
}


def _job(call: Call, name: str) -> Resource:
    runtime_of(call.emulator)
    job = call.emulator.store.get(f"{call.args['wsid']}/jobs/{name}")
    if job is None:
        raise ArmError(404, "UserError", f"Run {name} was not found in this workspace.")
    return job


def run_record(job: Resource) -> dict[str, Any]:
    """A job as run history tells it."""
    properties = job["properties"]
    outputs = {
        name: {"assetId": f"azureml://job-outputs/{job['name']}/{name}", "type": OUTPUT_TYPES[output["jobOutputType"]]}
        for name, output in properties["outputs"].items()
        if name != "default"
    }
    return {
        "runId": job["name"],
        "runUuid": str(uuid.uuid5(uuid.NAMESPACE_URL, job["id"].lower())),
        "status": properties["status"],
        "createdUtc": job["systemData"]["createdAt"],
        "startTimeUtc": job.get("_started"),
        "endTimeUtc": job.get("_ended"),
        "experimentId": str(uuid.uuid5(uuid.NAMESPACE_DNS, properties["experimentName"])),
        "displayName": properties["displayName"],
        "runType": "azureml.PipelineRun" if properties["jobType"] == "Pipeline" else "azureml.scriptrun",
        **({"parentRunId": job["_parent"], "rootRunId": job["_parent"]} if job.get("_parent") else {}),
        "error": {"error": job["_error"]} if job.get("_error") else None,
        "properties": properties["properties"],
        "tags": properties.get("tags") or {},
        "outputs": outputs,
    }


@route("GET", ML, r"/discovery(?:/workspaces/[^/]+)?", audience=None)
def discovery(call: Call) -> Response:
    services = ("history", "api", "hyperdrive", "modelmanagement", "mlflow", "modelregistry", "data")
    return JSONResponse(dict.fromkeys(services, call.emulator.settings.api))


@route("GET", ML, HISTORY + r"/runs/(?P<run>[^/]+)/details", audience="arm|ml")
def details(call: Call) -> Response:
    job = _job(call, call.args["run"])
    record, storage, container = run_record(job), call.emulator.storage, _container(call)
    base = ARTIFACT_FOLDER.format(job=job["name"])
    logs = [blob for folder in LOG_FOLDERS for blob in storage.list(container, f"{base}/{folder}")]
    shown = ("runId", "status", "startTimeUtc", "endTimeUtc", "error", "properties", "tags")
    urls = {blob[len(base) + 1 :]: storage.sas_url(container, blob) for blob in logs}
    target = (job["properties"].get("computeId") or "serverless").rsplit("/", 1)[-1]
    answer = {key: record[key] for key in shown}
    return JSONResponse({**answer, "target": target, "warnings": None, "logFiles": urls})


@route("GET", ML, HISTORY + r"/runs/(?P<run>[^/]+)", audience="arm|ml")
def run(call: Call) -> Response:
    return JSONResponse(run_record(_job(call, call.args["run"])))


@route("GET", ML, HISTORY + r"/runs/(?P<run>[^/]+)/children", audience="arm|ml")
def children(call: Call) -> Response:
    """The steps of a pipeline or the trials of a sweep, in the order in which they began."""
    parent = _job(call, call.args["run"])
    jobs = call.emulator.store.children(f"{call.args['wsid']}/jobs")
    return JSONResponse({"value": [run_record(job) for job in jobs if job.get("_parent") == parent["name"]]})


@route("POST", ML, HISTORY + r"/rundata", audience="arm|ml")
def run_data(call: Call) -> Response:
    job = _job(call, str(call.json().get("runId")))
    return JSONResponse({"runMetadata": run_record(job), "runDefinition": {}, "jobSpecification": {}})


@route("PATCH", ML, RUN, audience="arm|ml")
def patch(call: Call) -> Response:
    job, tags = _job(call, call.args["run"]), call.json().get("tags") or {}

    def change(resource: Resource) -> None:
        resource["properties"]["tags"] = {**(resource["properties"].get("tags") or {}), **tags}

    return JSONResponse(run_record(call.emulator.store.update(job["id"], change)))


@route("POST", ML, r"/data/v1\.0" + WORKSPACE + r"/dataversion/batchGetResolvedUris", audience="arm|ml")
def resolved_data(call: Call) -> Response:
    values = {asset: {"uri": uri, "type": "UriFolder"} for asset, uri in _resolved(call).items()}
    return JSONResponse({"values": values})


@route("POST", ML, r"/modelregistry/v1\.0" + WORKSPACE + r"/models/batchGetResolvedUris", audience="arm|ml")
def resolved_models(call: Call) -> Response:
    return JSONResponse({"values": {asset: {"path": uri} for asset, uri in _resolved(call).items()}})


def _resolved(call: Call) -> dict[str, str]:
    """Datastore URIs by the output ids that `run_record` gave out; unknown ids are left out, as the service does."""
    found = {}
    for asset in call.json().get("values") or []:
        if matched := re.fullmatch(r"azureml://job-outputs/([^/]+)/([^/]+)", str(asset)):
            output = _job(call, matched[1])["properties"]["outputs"].get(matched[2])
            place = re.search(r"datastores/([^/]+)/paths/(.*)$", output["uri"]) if output else None
            if place:
                found[asset] = datastore_uri(call.args["wsid"], place[1], place[2])
    return found


def _container(call: Call) -> str:
    workspace = call.emulator.store.need(call.args["wsid"], "Workspace")
    return container_of(workspace, ARTIFACT_STORE)


def _folder(call: Call) -> str:
    """Where the artifacts of the run in the path are kept. A job's run may also come by the plain server's id."""
    name = runtime_of(call.emulator).runs_of(call.args["wsid"]).of_run.get(call.args["run"], call.args["run"])
    return ARTIFACT_FOLDER.format(job=name)


def _artifact(folder: str, path: str) -> dict[str, Any]:
    origin, container = folder.split("/")
    return {"artifactId": f"{folder}/{path}", "origin": origin, "container": container, "path": path}


def _content(call: Call, folder: str, path: str, *, write: bool) -> dict[str, Any]:
    url = call.emulator.storage.sas_url(_container(call), f"{folder}/{path}", write=write)
    return {**_artifact(folder, path), "contentUri": url}


@route("POST", ML, RUN + r"/artifacts/batch/metadata", audience="arm|ml")
def new_artifacts(call: Call) -> Response:
    folder, paths = _folder(call), [str(item["path"]).strip("/") for item in call.json().get("paths") or []]
    if any(".." in path.split("/") for path in paths):
        raise ArmError(400, "UserError", "A path of an artifact may not contain '..'.")
    call.emulator.storage.ensure_container(_container(call))
    body = {
        "artifacts": {path: _artifact(folder, path) for path in paths},
        "artifactContentInformation": {path: _content(call, folder, path, write=True) for path in paths},
        "errors": {},
    }
    return JSONResponse(body)


@route("GET", ML, RUN + r"/artifacts/contentinfo", audience="arm|ml")
def artifact_content(call: Call) -> Response:
    folder, path = _folder(call), call.query.get("path", "").strip("/")
    if f"{folder}/{path}" not in call.emulator.storage.list(_container(call), f"{folder}/{path}"):
        raise ArmError(404, "UserError", f"Artifact '{path}' was not found in run {call.args['run']}.")
    return JSONResponse(_content(call, folder, path, write=False))


@route("GET", ML, RUN + r"/artifacts(?:/path)?", audience="arm|ml")
def artifacts(call: Call) -> Response:
    folder = _folder(call)
    below = "/".join(part for part in (folder, call.query.get("path", "").strip("/")) if part)
    found = [_artifact(folder, name[len(folder) + 1 :]) for name in call.emulator.storage.list(_container(call), below)]
    return JSONResponse({"value": found, "continuationToken": None, "nextLink": None})
