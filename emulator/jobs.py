"""Command jobs as resources: submit, read, list, cancel, tag."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from emulator import finetuning, pipelines
from emulator.errors import ArmError
from emulator.job_command import missing_references
from emulator.job_runner import TERMINAL, set_status, start
from emulator.models_from_jobs import ARTIFACT_FOLDER, ARTIFACT_STORE, output_uri
from emulator.resources import PROVIDER, answer, answer_list, system_data, utc_now
from emulator.routing import ARM, WORKSPACE, Call, route
from emulator.runtime import runtime_of
from emulator.store import Resource

JOB = WORKSPACE + r"/jobs/(?P<name>[A-Za-z0-9][\w.-]{0,254})"
CHANGEABLE = ("tags", "description", "displayName", "isArchived")
KINDS: dict[str, Any] = {each.JOB_TYPE: each for each in (finetuning, pipelines)}  # besides Command
REFERS_TO = {"environmentId": "Environment", "computeId": "Compute", "codeId": "Code"}


@route("PUT", ARM, JOB)
def submit(call: Call) -> Response:
    """Start a job. A name that is taken only has its tags and the like updated: never a second run."""
    runtime, store = runtime_of(call.emulator), call.emulator.store
    store.need(call.args["wsid"], "Workspace")
    properties = call.json().get("properties") or {}
    job_id = f"{call.args['wsid']}/jobs/{call.args['name']}"
    with runtime.lock:  # two PUTs of one name at the same moment are one job
        if store.get(job_id):
            return answer(store.update(job_id, lambda job: _retag(job, properties)))
        _check(call, properties)
        job = store.put(job_id, _resource(call, job_id, properties))
        kind = KINDS.get(properties["jobType"])
        start(runtime, job, kind.stages(call) if kind else None)
    return answer(job, 201)


def _retag(job: Resource, properties: dict[str, Any]) -> None:
    job["properties"].update({key: properties[key] for key in CHANGEABLE if key in properties})


def _check(call: Call, properties: dict[str, Any]) -> None:
    """ArmError 400 for what the service refuses at once, and for what this emulator cannot do."""
    if kind := KINDS.get(str(properties.get("jobType"))):
        kind.check(call, properties)
        return
    if properties.get("jobType") != "Command":
        raise ArmError(400, "NotSupported", f"The local Azure ML runs Command jobs, not {properties.get('jobType')}.")
    if not properties.get("command"):
        raise ArmError(400, "UserError", "The job has no command.")
    if not properties.get("environmentId"):
        raise ArmError(400, "UserError", "The job has no environment.")
    for key, what in REFERS_TO.items():
        target = properties.get(key) or ""
        if target.startswith("/") and call.emulator.store.get(target) is None:
            raise ArmError(400, "UserError", f"{what} '{target}' of the job does not exist in this workspace.")
    inputs, outputs = properties.get("inputs") or {}, properties.get("outputs") or {}
    if missing := missing_references(properties["command"], inputs, outputs):
        raise ArmError(400, "UserError", f"The command refers to {', '.join(missing)}, which this job does not have.")
    named = [name for name, output in outputs.items() if output.get("assetName")]
    if named:
        message = f"The local Azure ML does not register outputs by itself ({', '.join(named)}): register the model."
        raise ArmError(400, "NotSupported", message)


def _resource(call: Call, job_id: str, properties: dict[str, Any]) -> Resource:
    name, wsid, region = call.args["name"], call.args["wsid"], call.emulator.settings.region
    outputs = {
        key: {"mode": "ReadWriteMount", **{k: v for k, v in output.items() if v is not None}}
        for key, output in (properties.get("outputs") or {}).items()
    }
    for key, output in outputs.items():
        output["uri"] = output_uri(name, key, output)
    artifacts = f"azureml://datastores/{ARTIFACT_STORE}/{ARTIFACT_FOLDER.format(job=name)}"
    outputs["default"] = {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": artifacts}
    services = {
        "Tracking": _service("Tracking", f"azureml://{region}.api.azureml.ms/mlflow/v1.0{wsid}?"),
        "Studio": _service("Studio", f"https://ml.azure.com/runs/{name}?wsid={wsid}"),
    }
    filled = {
        **properties,
        "status": "Starting",
        "experimentName": properties.get("experimentName") or "Default",
        "displayName": properties.get("displayName") or name,
        "isArchived": False,
        "tags": properties.get("tags") or {},
        **({} if properties["jobType"] == finetuning.JOB_TYPE else {"inputs": properties.get("inputs") or {}}),
        "outputs": outputs,
        "services": services,
        "properties": {**(properties.get("properties") or {}), "_azureml.ComputeTargetType": "amlctrain"},
    }
    return {
        "id": job_id,
        "name": name,
        "type": f"{PROVIDER}/workspaces/jobs",
        "systemData": system_data(call),
        "properties": filled,
        "_statuses": [["Starting", utc_now()]],
    }


def _service(kind: str, endpoint: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("port", "status", "errorMessage", "properties"))
    return {"jobServiceType": kind, "endpoint": endpoint, **nothing}


@route("GET", ARM, JOB)
def read(call: Call) -> Response:
    runtime_of(call.emulator)
    job = call.emulator.store.need(f"{call.args['wsid']}/jobs/{call.args['name']}", "Job")
    return answer({**job, "properties": None} if job.get("_parent") else job)  # the SDK knows a step by that


@route("GET", ARM, WORKSPACE + r"/jobs")
def listing(call: Call) -> Response:
    runtime_of(call.emulator)
    view, tag = call.query.get("listViewType", "ActiveOnly"), call.query.get("tag")
    jobs = [job for job in call.emulator.store.children(f"{call.args['wsid']}/jobs") if not job.get("_parent")][::-1]
    if view != "All":
        jobs = [job for job in jobs if bool(job["properties"].get("isArchived")) == (view == "ArchivedOnly")]
    if tag:
        key, _, value = tag.partition("=")
        jobs = [job for job in jobs if (job["properties"]["tags"] or {}).get(key) == (value or None)]
    return answer_list(jobs)


@route("POST", ARM, JOB + r"/cancel")
def cancel(call: Call) -> Response:
    """Ask a job to stop; refused for one that has ended, as the service does."""
    runtime, store = runtime_of(call.emulator), call.emulator.store
    job = store.need(f"{call.args['wsid']}/jobs/{call.args['name']}", "Job")
    if job["properties"]["status"] in TERMINAL:
        status = job["properties"]["status"]
        raise ArmError(400, "UserError", f"Job '{job['name']}' cannot be cancelled: it is already {status}.")
    run = runtime.jobs.get(job["id"].lower())
    if run is None:  # it has just ended
        return Response(status_code=200)
    set_status(run, "CancelRequested")
    return Response(status_code=202, headers=call.emulator.operations.start(call, "cancel", run.cancel, seconds=0.0))
