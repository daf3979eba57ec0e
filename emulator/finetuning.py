"""Fine-tuning as a service: a job of type FineTuning, for which nobody names a machine or writes a line of training.

Underneath it is real: `training/train.py` runs as the job's process on the small model that stands behind the
catalogue. What it leaves is the service's: the weights stay in the emulator's own folder, as they stay with Microsoft,
and the workspace gets a registered model that can be deployed to a serverless endpoint and nowhere else.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from emulator import providers, service_models
from emulator.assets import update_container
from emulator.child_env import child_environment
from emulator.errors import ArmError
from emulator.finetuning_rules import chats, hyper_parameters, recipe, split
from emulator.job_files import Plan
from emulator.job_runner import Cancelled, JobRun, _execute, set_status
from emulator.models_from_jobs import ARTIFACT_FOLDER, ARTIFACT_STORE, datastore_uri
from emulator.resources import PROVIDER, system_data, utc_now
from emulator.routing import Call
from emulator.storage import locate
from emulator.store import Resource
from emulator.tracking import _api, create_run, workspace_of

JOB_TYPE, OUTPUT = "FineTuning", "registered_model"
TRAINER = service_models.ROOT / "training" / "train.py"
NEEDS_PROVIDER = "Microsoft.Network"


def check(call: Call, properties: dict[str, Any]) -> None:
    """ArmError for what the service refuses before it queues a job."""
    providers.need(call, NEEDS_PROVIDER)
    details = properties.get("fineTuningDetails") or {}
    for needed in ("model", "trainingData"):
        if not (details.get(needed) or {}).get("uri"):
            raise ArmError(400, "UserError", f"The fine-tuning job has no {needed}.")
    if str(details.get("taskType")).lower() != "chatcompletion" or details.get("modelProvider") != "Custom":
        raise ArmError(400, "NotSupported", "The local Azure ML fine-tunes custom models for chat completion only.")
    model = service_models.find(str(details["model"]["uri"]))
    if model is None:
        raise ArmError(400, "UserError", f"'{details['model']['uri']}' is not a model of the catalogue.")
    workspace = call.emulator.store.need(call.args["wsid"], "Workspace")
    service_models.check(call.emulator.store, workspace, model, "fine-tuning")
    hyper_parameters(details.get("hyperParameters") or {})
    outputs = properties.get("outputs") or {}
    if not (outputs.get(OUTPUT) or {}).get("assetName"):
        raise ArmError(400, "UserError", f"The fine-tuning job has no output '{OUTPUT}' with a name for the model.")


def stages(call: Call) -> Callable[[JobRun], dict[str, str] | None]:
    """What happens to the job between Queued and its end."""

    def run_all(run: JobRun) -> dict[str, str] | None:
        emulator, store = run.runtime.emulator, run.runtime.emulator.store
        set_status(run, "Queued")
        job = store.need(run.job_id, "Job")
        shutil.rmtree(run.folder, ignore_errors=True)
        mlflow_run = create_run(run.runtime, job)
        job = store.update(run.job_id, lambda found: found.update(_mlflow_run=mlflow_run))
        _event(run, "Job enqueued. Waiting for jobs ahead to complete.")
        plan = _prepare(call, run, job)
        if run.cancelled.is_set():
            raise Cancelled
        _event(run, "Job started.")
        code = _execute(run, plan, None)
        if run.cancelled.is_set():
            raise Cancelled
        if code:
            said = run.log_file.read_text(errors="replace").strip().splitlines()
            return {"code": "UserError", "message": f"Fine-tuning failed: {said[-1][-500:] if said else 'no reason'}"}
        _measure(run, plan.code, mlflow_run)
        _register(call, run, job)
        _event(run, "Job succeeded.")
        text = run.log_file.read_bytes()
        emulator.storage.put_bytes(run.artifacts, f"{ARTIFACT_FOLDER.format(job=run.name)}/user_logs/std_log.txt", text)
        return None

    return run_all


def _event(run: JobRun, message: str) -> None:
    """Events are lines of the job's log, which `jobs.stream` shows."""
    run.log_file.parent.mkdir(parents=True, exist_ok=True)
    with run.log_file.open("a") as file:
        file.write(f"{utc_now()} {message}\n")


def _prepare(call: Call, run: JobRun, job: Resource) -> Plan:
    """Download and judge the data, write the trainer's recipe. ArmError for data that is not there or not chats."""
    details, base = job["properties"]["fineTuningDetails"], service_models.weights()
    code, data = run.folder / "code", run.folder / "data"
    for made in (code / "outputs", data, run.folder / "tmp"):
        made.mkdir(parents=True)
    train = chats(_file(call, run, details["trainingData"], "train"), "training")
    if (details.get("validationData") or {}).get("uri"):
        validation = chats(_file(call, run, details["validationData"], "validation"), "validation")
    else:
        train, validation = split(train)
        _event(run, f"Validation data: {len(validation)} of the training examples, split off automatically.")
    for name, rows in (("train", train), ("validation", validation)):
        numbered = (json.dumps({"id": f"{name}-{n}", **json.loads(row)}) for n, row in enumerate(rows))
        (data / f"{name}.jsonl").write_text("".join(f"{row}\n" for row in numbered), encoding="utf-8")
    asked = hyper_parameters(details.get("hyperParameters") or {})
    content = recipe(asked, len(train), base)
    (code / "recipe.yaml").write_text(yaml.safe_dump(content))
    _event(run, f"{asked.epochs} epochs of {len(train)} examples, batch {asked.batch}, rate {asked.learning_rate:g}.")
    arguments = f"--recipe recipe.yaml --base-model '{base}' --data '{data}' --output '{run.folder / 'model'}'"
    command = f"'{sys.executable}' '{TRAINER}' {arguments} --checkpoints '{run.folder / 'checkpoints'}'"
    environment = {
        **child_environment(run.runtime.emulator),
        "HOME": str(run.folder),
        "TMPDIR": str(run.folder / "tmp"),
    }
    return Plan(command, environment, code, [])


def _file(call: Call, run: JobRun, given: dict[str, Any], name: str) -> Path:
    workspace = call.emulator.store.need(workspace_of({"id": run.job_id}), "Workspace")
    container, prefix = locate(call.emulator, workspace, str(given["uri"]))
    dest = run.folder / "inputs" / name
    dest.mkdir(parents=True)
    call.emulator.storage.download(container, prefix, dest)
    files = [path for path in dest.rglob("*") if path.is_file()]
    if len(files) != 1:
        raise ArmError(400, "UserError", f"There is no single file at '{given['uri']}'.")
    return files[0]


def _measure(run: JobRun, code: Path, mlflow_run: str) -> None:
    """The trainer's numbers under the service's names, in the job's run."""
    told = json.loads((code / "outputs" / "training_metrics.json").read_text())
    last = told["steps"]
    points = [("train_loss", each["loss"], each["step"]) for each in told["loss"]]
    points += [("valid_loss", told["eval_loss"], last)]
    if told.get("token_accuracy") is not None:
        points.append(("valid_mean_token_accuracy", told["token_accuracy"], last))
    now = int(time.time() * 1000)
    metrics = [{"key": key, "value": value, "timestamp": now, "step": step} for key, value, step in points]
    _api(run.runtime.emulator, "POST", "runs/log-batch", json={"run_id": mlflow_run, "metrics": metrics})
    for folder in sorted((run.folder / "checkpoints").glob("checkpoint-*"), key=lambda each: int(each.name[11:]))[-3:]:
        _event(run, f"Checkpoint kept at step {folder.name[11:]}.")  # the service keeps the last three, too


def _register(call: Call, run: JobRun, job: Resource) -> None:
    """The custom model: an entry in the workspace, the weights in a folder that no client can reach."""
    emulator, name = call.emulator, str(job["properties"]["outputs"][OUTPUT]["assetName"])
    wsid = workspace_of(job)
    taken = [
        int(each["name"])
        for each in emulator.store.children(f"{wsid}/models/{name}/versions")
        if each["name"].isdigit()
    ]
    version = str(max(taken, default=0) + 1)
    kept = emulator.settings.home / "service-models" / wsid.split("/")[8] / name / version
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(run.folder / "model", kept)
    shutil.move(run.folder / "checkpoints", kept.parent / f"{version}-checkpoints")
    base = job["properties"]["fineTuningDetails"]["model"]["uri"]
    folder = f"{ARTIFACT_FOLDER.format(job=run.name)}/{OUTPUT}"
    described = yaml.safe_dump({"run_id": run.name, "base_model": base, "weights": "with the service"})
    emulator.storage.put_bytes(run.artifacts, f"{folder}/MLmodel", described.encode())
    path = f"{wsid}/models/{name}/versions/{version}"
    resource: Resource = {
        "id": path,
        "name": version,
        "type": f"{PROVIDER}/workspaces/models/versions",
        "systemData": system_data(call),
        "properties": {
            "description": None,
            "tags": {},
            "properties": {"baseModelId": base},
            "isArchived": False,
            "isAnonymous": False,
            "flavors": {},
            "jobName": run.name,
            "modelType": "mlflow_model",
            "modelUri": datastore_uri(wsid, ARTIFACT_STORE, folder),
            "provisioningState": "Succeeded",
        },
        "_weights": str(kept),
        "_base": base,
    }
    update_container(
        replace(call, args={**call.args, "kind": "models", "name": name}), emulator.store.put(path, resource)
    )
    emulator.store.update(run.job_id, lambda found: found["properties"]["outputs"][OUTPUT].update(assetVersion=version))
