"""Jobs as resources: submit, read, list, cancel, tag. What runs them: job_runner, sweeps, pipelines, finetuning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from emulator import finetuning, pipelines, search_space
from emulator.errors import ArmError
from emulator.job_command import missing_references
from emulator.job_resource import job_resource
from emulator.job_runner import TERMINAL, set_status, start
from emulator.resources import answer, answer_list, system_data
from emulator.routing import ARM, WORKSPACE, Call, route
from emulator.runtime import Runtime, runtime_of
from emulator.store import Resource
from emulator.sweeps import start_sweep

JOB = WORKSPACE + r"/jobs/(?P<name>[A-Za-z0-9][\w.-]{0,254})"
CHANGEABLE = ("tags", "description", "displayName", "isArchived")
STARTERS: dict[str, Callable[[Runtime, Resource], object]] = {"Command": start, "Sweep": start_sweep}
MANAGED: dict[str, Any] = {each.JOB_TYPE: each for each in (finetuning, pipelines)}  # no command of ours
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
        made = job_resource(call.emulator.settings.region, system_data(call), job_id, properties)
        job = store.put(job_id, {**made, "_asked": properties} if properties["jobType"] == "Sweep" else made)
        if kind := MANAGED.get(properties["jobType"]):
            start(runtime, job, kind.stages(call))
        else:
            STARTERS[properties["jobType"]](runtime, job)
    return answer(job, 201)


def _retag(job: Resource, properties: dict[str, Any]) -> None:
    job["properties"].update({key: properties[key] for key in CHANGEABLE if key in properties})


def _check(call: Call, properties: dict[str, Any]) -> None:
    """ArmError 400 for what the service refuses at once, and for what this emulator cannot do."""
    kind = str(properties.get("jobType"))
    if managed := MANAGED.get(kind):
        managed.check(call, properties)
        return
    if kind not in STARTERS:
        known = ", ".join((*STARTERS, *MANAGED))
        raise ArmError(400, "NotSupported", f"The local Azure ML runs {known} jobs, not {kind}.")
    work = {**properties, **(properties.get("trial") or {})}
    if not work.get("command"):
        raise ArmError(400, "UserError", "The job has no command.")
    if not work.get("environmentId"):
        raise ArmError(400, "UserError", "The job has no environment.")
    if kind == "Sweep":
        sampling = (properties.get("samplingAlgorithm") or {}).get("samplingAlgorithmType") or "Random"
        search_space.check(work["command"], properties.get("searchSpace") or {}, sampling)
    for key, what in REFERS_TO.items():
        target = work.get(key) or ""
        if target.startswith("/") and call.emulator.store.get(target) is None:
            raise ArmError(400, "UserError", f"{what} '{target}' of the job does not exist in this workspace.")
    inputs, outputs = properties.get("inputs") or {}, properties.get("outputs") or {}
    if missing := missing_references(work["command"], inputs, outputs):
        raise ArmError(400, "UserError", f"The command refers to {', '.join(missing)}, which this job does not have.")
    named = [name for name, output in outputs.items() if output.get("assetName")]
    if named:
        message = f"The local Azure ML does not register outputs by itself ({', '.join(named)}): register the model."
        raise ArmError(400, "NotSupported", message)


@route("GET", ARM, JOB)
def read(call: Call) -> Response:
    runtime_of(call.emulator)
    job = call.emulator.store.need(f"{call.args['wsid']}/jobs/{call.args['name']}", "Job")
    return answer({**job, "properties": None} if job.get("_step") else job)  # the SDK knows a step by that


@route("GET", ARM, WORKSPACE + r"/jobs")
def listing(call: Call) -> Response:
    runtime_of(call.emulator)
    view, tag = call.query.get("listViewType", "ActiveOnly"), call.query.get("tag")
    found = reversed(call.emulator.store.children(f"{call.args['wsid']}/jobs"))
    jobs = [job for job in found if "_parent" not in job]  # trials and steps are asked for by their parent
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
