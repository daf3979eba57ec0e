"""The process behind a serverless endpoint: a real scoring server with the weights that only the service can reach."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import uuid
from pathlib import Path

from emulator import service_models
from emulator.backends import SERVER, Backend, _wait_until_ready, retire
from emulator.child_env import child_environment
from emulator.errors import ArmError
from emulator.processes import free_port
from emulator.resources import BUSY_STATES
from emulator.runtime import Runtime, on_start
from emulator.store import Resource

CODE = service_models.ROOT / "serving"
PROBE = {"failureThreshold": 30, "timeout": "PT2S", "period": "PT10S", "initialDelay": "PT10S"}
SETTINGS = {
    "GUNICORN_CMD_ARGS": "--threads 16 --keep-alive 75",
    "MAX_BATCH_SIZE": "16",
    "MAX_QUEUED_REQUESTS": "64",
    "CONTENT_FILTER": "off",  # the service's own is in front (content_safety.py), and can be switched off
    "GOMP_SPINCOUNT": "5000",
}
log = logging.getLogger(__name__)


def weights_of(runtime: Runtime, endpoint: Resource) -> Path:
    """The model folder of an endpoint: a custom model's own, or the one behind the catalogue."""
    custom = endpoint.get("_model")
    if not custom:
        return service_models.weights()
    return Path(runtime.emulator.store.need(custom, "Model")["_weights"])


def deploy(runtime: Runtime, target: str) -> None:
    """Start the server of a stored endpoint; its state tells how that ended."""
    store = runtime.emulator.store
    try:
        backend = _start(runtime, store.need(target, "Serverless endpoint"))
        with runtime.lock:
            if store.get(target) is None:
                retire(runtime, backend, patience=0)
                raise ArmError(404, "ResourceNotFound", "The endpoint was deleted while it was being created.")
            runtime.backends[target.lower()] = backend
    except BaseException:
        _set(runtime, target, "Failed", "CreationFailed")
        raise
    _set(runtime, target, "Succeeded", "Online")


def _start(runtime: Runtime, endpoint: Resource) -> Backend:
    emulator, weights = runtime.emulator, weights_of(runtime, endpoint)
    parts = endpoint["id"].lower().split("/")
    folder = emulator.settings.home / "serverless" / parts[8] / parts[10] / uuid.uuid4().hex[:8]
    shutil.copytree(CODE, folder / "code", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    port = free_port()
    process = emulator.processes.start(
        f"serverless {endpoint['name']}",
        [sys.executable, "-c", SERVER, "--entry_script", "score.py", "--model_dir", str(weights), "--port", str(port)],
        env={
            **child_environment(emulator),
            "HOME": str(folder),
            "AML_APP_ROOT": str(folder / "code"),
            "AZUREML_MODEL_DIR": str(weights),
            "AZUREML_ENTRY_SCRIPT": "score.py",
            **SETTINGS,
        },
        cwd=folder / "code",
        log=folder / "console.log",
    )
    backend = Backend(process, port, folder, {})
    try:
        _wait_until_ready(backend, PROBE, "/")
    except ArmError:
        emulator.processes.stop(process)
        raise
    return backend


def _set(runtime: Runtime, target: str, provisioning: str, state: str) -> None:
    if runtime.emulator.store.get(target) is not None:
        change = {"provisioningState": provisioning, "endpointState": state}
        runtime.emulator.store.update(target, lambda found: found["properties"].update(change))


@on_start
def restart(runtime: Runtime) -> None:
    """Servers die with the emulator: start those of ready endpoints again; what was cut short has failed."""
    ready = []
    for endpoint in runtime.emulator.store.find(r".*/serverlessEndpoints/[^/]+"):
        state = endpoint["properties"]["provisioningState"]
        if state in BUSY_STATES:
            _set(runtime, endpoint["id"], "Failed", "CreationFailed")
        elif state == "Succeeded":
            ready.append(endpoint["id"])
    runtime.restarting.update(target.lower() for target in ready)
    if ready:
        threading.Thread(target=_restart_all, args=(runtime, ready), name="serverless", daemon=True).start()


def _restart_all(runtime: Runtime, targets: list[str]) -> None:
    for target in targets:
        try:
            deploy(runtime, target)
        except ArmError as error:
            log.warning("serverless endpoint %s did not come back: %s", target, error)
        finally:
            runtime.restarting.discard(target.lower())
