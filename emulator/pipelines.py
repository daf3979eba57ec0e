"""Pipeline jobs made of one component of the registry: its steps are child jobs, one after the other.

The fine-tune step really trains: `training/train.py` runs as its process, with a recipe made of the pipeline's own
parameters, on the small model that stands behind the catalogue (pipeline_steps.py).
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from emulator import job_identity, registries
from emulator.errors import ArmError
from emulator.job_files import OutputPlace, collect
from emulator.job_runner import LOG, Cancelled, JobRun, set_status
from emulator.models_from_jobs import ARTIFACT_FOLDER
from emulator.pipeline_rules import check_inputs, values
from emulator.pipeline_steps import NEEDS, STEPS, Work
from emulator.quota import check_job
from emulator.resources import PROVIDER, system_data, utc_now
from emulator.routing import Call
from emulator.storage import locate
from emulator.store import Resource
from emulator.tracking import _api, create_run, end_run, workspace_of

JOB_TYPE = "Pipeline"
Stages = Callable[[JobRun], dict[str, str] | None]


def check(call: Call, properties: dict[str, Any]) -> None:
    """ArmError for what the service refuses before it queues a pipeline, and for what this emulator cannot do."""
    nodes = properties.get("jobs") or {}
    if len(nodes) != 1:
        message = f"The local Azure ML runs pipelines of one node, a component of a registry, not of {len(nodes)}."
        raise ArmError(400, "NotSupported", message)
    (node,) = nodes.values()
    component, version = _component(node)
    check_inputs(f"{component['name']}:{version}", component["inputs"], node.get("inputs") or {})
    given = values(component["inputs"], node.get("inputs") or {})
    if model := given.get("mlflow_model_path"):
        registries.find(model, "models")
    for name, value in given.items():
        if name.startswith("compute_") and value != "serverless":
            _compute(call, value)
    for name, output in (node.get("outputs") or {}).items():
        if name not in component["outputs"]:
            raise ArmError(400, "UserError", f"Component '{component['name']}' has no output '{name}'.")
        if _parent_output(output) not in (properties.get("outputs") or {}):
            raise ArmError(400, "UserError", f"Output '{name}' goes to an output that the pipeline does not have.")


def _component(node: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    return registries.find(str(node.get("componentId")), "components")


def _compute(call: Call, name: str) -> Resource:
    target = name if name.startswith("/") else f"{call.args['wsid']}/computes/{name.removeprefix('azureml:')}"
    found = call.emulator.store.get(target)
    if found is None:
        raise ArmError(400, "UserError", f"Compute '{name}' of the pipeline does not exist in this workspace.")
    return found


def _parent_output(output: Mapping[str, Any]) -> str:
    """trained_model of "${{parent.outputs.trained_model}}"."""
    return str(output.get("value", "")).removeprefix("${{parent.outputs.").removesuffix("}}")


def stages(call: Call) -> Stages:
    """What happens to the pipeline between its submission and its end."""

    def run_all(run: JobRun) -> dict[str, str] | None:
        emulator, store = run.runtime.emulator, run.runtime.emulator.store
        set_status(run, "Preparing")
        job = store.need(run.job_id, "Job")
        shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True)
        root = create_run(run.runtime, job)
        job = store.update(run.job_id, lambda found: found.update(_mlflow_run=root))
        workspace = store.need(workspace_of(job), "Workspace")
        ((node_name, node),) = job["properties"]["jobs"].items()
        component, _ = _component(node)
        given = values(component["inputs"], node.get("inputs") or {})
        cluster = None if given["compute_finetune"] == "serverless" else _compute(call, given["compute_finetune"])
        _check_cluster(run, workspace, job, cluster, given)
        outputs = {
            name: _place(call, workspace, job["properties"]["outputs"][_parent_output(output)], run, name)
            for name, output in (node.get("outputs") or {}).items()
        }
        work = Work(emulator, workspace, given, cluster, {name: place.local for name, place in outputs.items()})
        set_status(run, "Running")
        go_on = bool((job["properties"].get("settings") or {}).get("continue_on_step_failure"))
        failed = _run_steps(call, run, component["steps"], work, root, go_on)
        for place in outputs.values():
            collect(emulator.storage, place)
        if run.cancelled.is_set():
            raise Cancelled
        if not failed:
            return None
        nodes = ", ".join(f"/{node_name}/{name}" for name in failed)
        message = (
            f"Pipeline has failed child jobs. Failed nodes: {nodes}. For more details and logs, please go to the job "
            "detail page and check the child jobs."
        )
        return {"code": "UserError", "message": message}

    return run_all


def _check_cluster(
    run: JobRun, workspace: Resource, job: Resource, cluster: Resource | None, given: Mapping[str, str]
) -> None:
    """ArmError when the cluster can never have its nodes, or may not read and write the workspace's storage."""
    if cluster is None:
        return
    asked = {"computeId": cluster["id"], "resources": {"instanceCount": int(given["num_nodes_finetune"])}}
    check_job(run.runtime.emulator.store, asked)
    job_identity.check(run.runtime.emulator, workspace, {**job, "properties": {**job["properties"], **asked}})


def _place(call: Call, workspace: Resource, output: Mapping[str, Any], run: JobRun, name: str) -> OutputPlace:
    container, prefix = locate(call.emulator, workspace, output["uri"])
    local = run.folder / "outputs" / name
    local.mkdir(parents=True)
    return OutputPlace(local, container, prefix, is_file=False)


def _run_steps(call: Call, run: JobRun, names: list[str], work: Work, root: str, go_on: bool) -> list[str]:
    """The names of the steps that failed. After a failure nothing more begins, or only what does not need it."""
    failed: list[str] = []
    lost: set[str] = set()
    for name in names:
        if run.cancelled.is_set() or (failed and not go_on):
            break
        if lost & set(NEEDS[name]):
            lost.add(name)
            continue
        status = _step(call, run, name, work, root)
        _tell(run, f"{name}: {status}")
        if status != "Completed":
            failed.append(name)
            lost.add(name)
    return failed


def _step(call: Call, run: JobRun, name: str, work: Work, root: str) -> str:
    """Run one step as a child job; returns the status it ended with."""
    child = _child(call, run, name)
    resource = child.runtime.emulator.store.need(child.job_id, "Job")
    mlflow_run = create_run(child.runtime, resource)
    for tag in ("mlflow.parentRunId", "mlflow.rootRunId"):
        _api(work.emulator, "POST", "runs/set-tag", json={"run_id": mlflow_run, "key": tag, "value": root})
    child.runtime.emulator.store.update(child.job_id, lambda found: found.update(_mlflow_run=mlflow_run))
    set_status(child, "Running")
    error: dict[str, str] | None = None
    try:
        metrics = STEPS[name](work, child)
        _log_metrics(work, mlflow_run, metrics)
    except ArmError as refused:
        error = {"code": refused.code, "message": refused.message}
        _tell(child, f"error: {refused.message}")
    status = "Canceled" if child.cancelled.is_set() else "Failed" if error else "Completed"
    end_run(child.runtime, child.job_id, status)
    set_status(child, status, error)
    run.runtime.jobs.pop(child.job_id.lower(), None)
    _send(child)
    return status


def _child(call: Call, run: JobRun, name: str) -> JobRun:
    """A step as the service keeps it: a job of its own with a GUID for a name, seen in run history alone."""
    store, parent = run.runtime.emulator.store, run.runtime.emulator.store.need(run.job_id, "Job")
    identity = str(uuid.uuid4())
    job_id = f"{workspace_of(parent)}/jobs/{identity}"
    properties = {
        "jobType": "Command",
        "displayName": name,
        "experimentName": parent["properties"]["experimentName"],
        "status": "Starting",
        "isArchived": False,
        "tags": {},
        "properties": {"azureml.parentRunId": run.name, "azureml.rootRunId": run.name, "StepName": name},
        "inputs": {},
        "outputs": {},
    }
    store.put(
        job_id,
        {
            "id": job_id,
            "name": identity,
            "type": f"{PROVIDER}/workspaces/jobs",
            "systemData": system_data(call),
            "properties": properties,
            "_parent": run.name,
            "_step": True,
            "_statuses": [["Starting", utc_now()]],
        },
    )
    folder = run.folder / "steps" / name
    folder.mkdir(parents=True)
    child = JobRun(run.runtime, job_id, identity, folder, run.artifacts, cancelled=run.cancelled)
    run.children.append(child)
    run.runtime.jobs[job_id.lower()] = child
    return child


def _log_metrics(work: Work, mlflow_run: str, points: list[tuple[str, float, int]]) -> None:
    now = int(time.time() * 1000)
    metrics = [{"key": key, "value": value, "timestamp": now, "step": step} for key, value, step in points]
    for start in range(0, len(metrics), 1000):  # as many as one call takes
        part = metrics[start : start + 1000]
        _api(work.emulator, "POST", "runs/log-batch", json={"run_id": mlflow_run, "metrics": part})


def _tell(run: JobRun, line: str) -> None:
    with run.log_file.open("a") as file:
        file.write(f"{utc_now()} {line}\n")
    _send(run)


def _send(run: JobRun) -> None:
    """A step that wrote no log has none."""
    if run.log_file.exists():
        place = f"{ARTIFACT_FOLDER.format(job=run.name)}/{LOG}"
        run.runtime.emulator.storage.put_bytes(run.artifacts, place, run.log_file.read_bytes())
