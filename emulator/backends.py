"""Scoring servers: for each deployment one real `azmlinfsrv` process with its code, its model and its environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from emulator import no_code
from emulator.child_env import child_environment, managed_identity
from emulator.collected import DataCollector, collector_of
from emulator.containers import Launch, prepare
from emulator.context import Emulator
from emulator.endpoint_rules import seconds
from emulator.errors import ArmError
from emulator.gate import Gate
from emulator.processes import free_port
from emulator.runtime import Runtime
from emulator.storage import locate
from emulator.store import Resource

CRASHED = (
    "User container has crashed or terminated. Please see troubleshooting guide, available here: "
    "https://aka.ms/oe-tsg#error-resourcenotready"
)
SPEC = ("model", "environmentId", "environmentVariables", "instanceType", "dataCollector", "modelMountPath")
POLL_SECONDS = 0.1
# `azmlinfsrv` on this machine only (its default is every interface): whoever reaches its port needs no token.
SERVER = """
import azureml_inference_server_http.constants as constants
constants.DEFAULT_HOST = "127.0.0.1"
from azureml_inference_server_http.amlserver import run
run()
"""


@dataclass
class Backend:
    """A process that serves, and what it was started from (`spec`: it is replaced only when that changes)."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    spec: dict[str, Any]
    gate: Gate = field(default_factory=Gate)
    collector: DataCollector | None = None

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


def spec_of(emulator: Emulator, deployment: Resource) -> dict[str, Any]:
    """What a server is started from. The SDK uploads the code anew at every PUT, so its content counts, not its id."""
    properties = deployment["properties"]
    configuration = properties.get("codeConfiguration")
    if not configuration:
        return {key: properties.get(key) for key in SPEC}
    code = emulator.store.get(configuration["codeId"]) or {"properties": {}}
    content = (code["properties"].get("properties") or {}).get("hash_sha256") or configuration["codeId"]
    return {**{key: properties.get(key) for key in SPEC}, "code": [content, configuration["scoringScript"]]}


def folder_of(emulator: Emulator, deployment_id: str) -> Path:
    """Where all attempts of one deployment live: home/deployments/WORKSPACE/ENDPOINT/NAME."""
    parts = deployment_id.lower().split("/")
    return emulator.settings.home / "deployments" / parts[8] / parts[10] / parts[12]


def start(runtime: Runtime, deployment: Resource) -> Backend:
    """Start a server and return it when it is ready. ArmError with the service's words when it does not get there."""
    emulator = runtime.emulator
    folder = folder_of(emulator, deployment["id"]) / uuid.uuid4().hex[:8]
    _clear_failed(runtime, deployment, folder.parent)
    (folder / "code").mkdir(parents=True)
    runtime.emulator.store.update(deployment["id"], lambda found: found.update(_logs=str(folder)))
    properties, port = deployment["properties"], free_port()
    with (folder / "storage-initializer.log").open("w") as notes:
        model_dir = _place_model(emulator, deployment, folder, notes)
        own, probed = not properties.get("codeConfiguration"), "/"
        if no_code.is_no_code(properties):
            launch = _code_server(no_code.place_script(folder / "code"), folder, model_dir, port)
        elif own:
            launch, probed = prepare(emulator, deployment, folder / "code", port)
        else:
            _place_code(emulator, deployment, folder / "code", notes)
            launch = _code_server(properties["codeConfiguration"]["scoringScript"], folder, model_dir, port)
    collector = None if own else collector_of(emulator, deployment)
    collecting = collector.environment(folder) if collector else {}
    process = emulator.processes.start(
        f"{deployment['name']} ({deployment['id'].split('/')[10]})",
        launch.argv,
        env={**_environment(emulator, deployment, folder, model_dir), **launch.env, **collecting},
        cwd=launch.cwd,
        log=folder / "console.log",
    )
    backend = Backend(process, port, folder, spec_of(emulator, deployment), collector=collector)
    try:
        _wait_until_ready(backend, properties["readinessProbe"], probed)
    except ArmError:
        emulator.processes.stop(process)
        if collector:
            collector.stop()
        raise
    return backend


def _code_server(script: str, folder: Path, model_dir: Path, port: int) -> Launch:
    """The inference server around somebody's scoring script."""
    if not (folder / "code" / script).is_file():
        raise ArmError(400, "BadArgument", f"There is no scoring script '{script}' in the deployment's code.")
    server = [sys.executable, "-c", SERVER]
    argv = [*server, "--entry_script", script, "--model_dir", str(model_dir), "--port", str(port)]
    about = {"AML_APP_ROOT": str(folder / "code"), "AZUREML_ENTRY_SCRIPT": script}
    return Launch(argv, about, (folder / "code" / script).parent)


def _clear_failed(runtime: Runtime, deployment: Resource, attempts: Path) -> None:
    """Remove what earlier failed attempts left; the server that still serves keeps its folder."""
    serving = runtime.backends.get(deployment["id"].lower())
    for attempt in attempts.glob("*"):
        if serving is None or attempt != serving.folder:
            shutil.rmtree(attempt, ignore_errors=True)


def _environment(emulator: Emulator, deployment: Resource, folder: Path, model_dir: Path) -> dict[str, str]:
    endpoint = emulator.store.need(deployment["id"].rsplit("/deployments/", 1)[0], "Endpoint")
    users = list((endpoint["identity"].get("userAssignedIdentities") or {}).values())
    client = users[0]["clientId"] if users else endpoint["identity"].get("principalId", "")
    return {
        **child_environment(emulator),
        **managed_identity(emulator, client),
        "HOME": str(folder),
        "AZUREML_MODEL_DIR": str(model_dir),
        **{key: str(value) for key, value in deployment["properties"]["environmentVariables"].items()},
    }


def _place_code(emulator: Emulator, deployment: Resource, dest: Path, notes: Any) -> None:
    code = deployment["properties"]["codeConfiguration"]["codeId"]
    workspace = emulator.store.need("/".join(deployment["id"].split("/")[:9]), "Workspace")
    count = emulator.storage.download(*locate(emulator, workspace, code), dest)
    notes.write(f"Downloaded {count} files of code {code}\n")


def _place_model(emulator: Emulator, deployment: Resource, folder: Path, notes: Any) -> Path:
    """Download the model; returns AZUREML_MODEL_DIR. A folder keeps the last part of its path below that."""
    model = deployment["properties"].get("model")
    empty = folder / "model"
    empty.mkdir()
    if not model:
        return empty
    workspace = emulator.store.need("/".join(deployment["id"].split("/")[:9]), "Workspace")
    container, prefix = locate(emulator, workspace, model)
    _, name, _, version = model.rstrip("/").rsplit("/", 3)
    model_dir = empty / name / version
    is_file = emulator.storage.list(container, prefix) == [prefix]
    target = model_dir if is_file else model_dir / prefix.rsplit("/", 1)[-1]
    count = emulator.storage.download(container, prefix, target)
    notes.write(f"Downloaded {count} files of model {model}\n")
    if not count:
        raise ArmError(400, "ModelDownloadFailed", f"Model '{name}:{version}' has no files at '{container}/{prefix}'.")
    return model_dir


def _wait_until_ready(backend: Backend, probe: dict[str, Any], path: str) -> None:
    budget = seconds(probe["initialDelay"], "initialDelay")
    budget += int(probe["failureThreshold"]) * seconds(probe["period"], "period")
    deadline = time.monotonic() + budget
    with httpx.Client(trust_env=False, timeout=seconds(probe["timeout"], "timeout")) as client:
        while time.monotonic() < deadline:
            if not backend.alive:
                raise ArmError(400, "ResourceNotReady", CRASHED)
            try:
                if client.get(f"http://127.0.0.1:{backend.port}{path}").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(POLL_SECONDS)
    raise ArmError(400, "ResourceNotReady", f"The readiness probe of the container failed for {budget:g} s.")


def retire(runtime: Runtime, backend: Backend, patience: float) -> None:
    """Stop a server that no new request goes to, once its last answers are out, at the latest after `patience` s."""
    deadline = time.monotonic() + patience
    while backend.gate.active and time.monotonic() < deadline and backend.alive:
        time.sleep(POLL_SECONDS)
    runtime.emulator.processes.stop(backend.process, grace=1.0)  # nothing is left to finish
    if backend.collector:
        backend.collector.stop()
    shutil.rmtree(backend.folder, ignore_errors=True)
