"""A job's folder: code, inputs and outputs put in place before it runs, outputs taken out after."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.child_env import child_environment, managed_identity
from emulator.context import Emulator
from emulator.errors import ArmError
from emulator.job_command import resolve
from emulator.models_from_jobs import resolve_job_uri
from emulator.storage import Storage, locate
from emulator.store import Resource

MODEL_INPUTS = frozenset({"custom_model", "mlflow_model", "triton_model"})
TOKEN_SECONDS = 7 * 24 * 3600  # the run's own token outlives the longest job, so nothing has to renew it


@dataclass(frozen=True)
class OutputPlace:
    local: Path
    container: str
    prefix: str
    is_file: bool


@dataclass(frozen=True)
class Plan:
    command: str
    environment: dict[str, str]
    code: Path
    outputs: list[OutputPlace]


def prepare(emulator: Emulator, job: Resource, folder: Path) -> Plan:
    """Fill `folder` and say how to run the job there. ArmError for an input that is not there."""
    properties = job["properties"]
    wsid = job["id"].rsplit("/jobs/", 1)[0]
    workspace = emulator.store.need(wsid, "Workspace")
    code = folder / "code"
    for made in (code / "outputs", code / "logs", folder / "tmp"):
        made.mkdir(parents=True)
    if properties.get("codeId"):
        emulator.storage.download(*locate(emulator, workspace, properties["codeId"]), code)
    inputs = {
        name: _input(emulator, workspace, name, given, folder / "inputs" / name)
        for name, given in (properties.get("inputs") or {}).items()
    }
    outputs = {
        name: _output(emulator, workspace, output, folder / "outputs" / name)
        for name, output in properties["outputs"].items()
        if name != "default"
    }
    paths = {name: str(place.local) for name, place in outputs.items()}
    environment = {
        **child_environment(emulator),
        **_identity(emulator, properties),
        **_run_variables(emulator, workspace, job, folder),
        **{f"AZURE_ML_INPUT_{name}": value for name, value in inputs.items()},
        **{f"AZURE_ML_OUTPUT_{name}": value for name, value in paths.items()},
        **(properties.get("environmentVariables") or {}),
    }
    return Plan(resolve(properties["command"], inputs, paths), environment, code, list(outputs.values()))


def _input(emulator: Emulator, workspace: Resource, name: str, given: dict[str, Any], dest: Path) -> str:
    """What stands for an input in the command: a literal's text, or the path of the downloaded file or folder."""
    kind = given["jobInputType"]
    if kind == "literal":
        return str(given["value"])
    uri = resolve_job_uri(emulator, workspace["id"], str(given["uri"]))
    short = uri.removeprefix("azureml:")
    if kind in MODEL_INPUTS and uri.startswith("azureml:") and not short.startswith("/"):
        model, _, version = short.partition(":")
        uri = f"{workspace['id']}/models/{model}/versions/{version}"
    if given.get("mode") == "Direct":
        return uri
    container, prefix = locate(emulator, workspace, uri)
    dest.mkdir(parents=True)
    if not emulator.storage.download(container, prefix, dest):
        raise ArmError(404, "UserError", f"Input '{name}' of the job: there is no file at '{given['uri']}'.")
    single = dest / prefix.rsplit("/", 1)[-1]
    is_file = emulator.storage.list(container, prefix) == [prefix.strip("/")]
    return str(single if is_file else dest)


def _output(emulator: Emulator, workspace: Resource, output: dict[str, Any], local: Path) -> OutputPlace:
    """Make room for an output. A mounted one (the default) shows what is at its place already, as a mount would."""
    container, prefix = locate(emulator, workspace, output["uri"])
    is_file = output["jobOutputType"] == "uri_file"
    (local.parent if is_file else local).mkdir(parents=True, exist_ok=True)
    if not is_file and output.get("mode") in (None, "ReadWriteMount"):
        emulator.storage.download(container, prefix, local)
    return OutputPlace(local, container, prefix, is_file)


def collect(storage: Storage, place: OutputPlace) -> None:
    """Upload one output; one that the job did not write leaves nothing."""
    if not place.is_file:
        storage.upload(place.container, place.prefix, place.local)
    elif place.local.is_file():
        storage.put_bytes(place.container, place.prefix, place.local.read_bytes())


def _identity(emulator: Emulator, properties: dict[str, Any]) -> dict[str, str]:
    """A login with the managed identity of the job or of its compute; none when neither has one, as on the service."""
    asked = properties.get("identity") or {}
    compute = emulator.store.get(properties["computeId"]) if properties.get("computeId") else None
    given = (compute or {}).get("identity") or {}
    if asked.get("identityType") != "Managed" and given.get("type", "None") == "None":
        return {}
    users = list(given.get("userAssignedIdentities") or {})
    resource = emulator.store.get(asked.get("resourceId") or users[0]) if asked.get("resourceId") or users else None
    client = asked.get("clientId") or ((resource or {}).get("properties") or {}).get("clientId") or ""
    return managed_identity(emulator, client)


def _run_variables(emulator: Emulator, workspace: Resource, job: Resource, folder: Path) -> dict[str, str]:
    """AZUREML_* and MLFLOW_*: with them `mlflow.start_run()` in the job attaches to the job's own run."""
    settings, name, experiment = emulator.settings, job["name"], job["properties"]["experimentName"]
    _, _, subscription, _, group, _, _, _, workspace_name = workspace["id"].split("/")
    token = emulator.tokens.mint("https://management.azure.com", settings.client_id, TOKEN_SECONDS)
    return {
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "AZUREML_RUN_ID": name,
        "AZUREML_ROOT_RUN_ID": name,
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_RUN_TOKEN_EXPIRY": str(int(time.time()) + TOKEN_SECONDS),
        "AZUREML_EXPERIMENT_NAME": experiment,
        "AZUREML_ARM_SUBSCRIPTION": subscription,
        "AZUREML_ARM_RESOURCEGROUP": group,
        "AZUREML_ARM_WORKSPACE_NAME": workspace_name,
        "AZUREML_ARM_PROJECT_NAME": experiment,
        "AZUREML_WORKSPACE_ID": workspace["properties"]["workspaceId"],
        "AZUREML_WORKSPACE_SCOPE": workspace["id"],
        "AZUREML_SERVICE_ENDPOINT": settings.api,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{settings.api}/discovery",
        "MLFLOW_TRACKING_URI": f"azureml://{settings.region}.api.azureml.ms/mlflow/v2.0{workspace['id']}",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "MLFLOW_RUN_ID": name,
    }
