"""A job as the service keeps it: what was asked for, with the defaults, places and addresses filled in."""

from __future__ import annotations

from typing import Any

from emulator.models_from_jobs import ARTIFACT_FOLDER, ARTIFACT_STORE, output_uri
from emulator.resources import PROVIDER, utc_now
from emulator.store import Resource


def job_resource(region: str, system_data: dict[str, Any], job_id: str, properties: dict[str, Any]) -> Resource:
    """A new job under the ARM id `job_id`, not yet started."""
    wsid, _, name = job_id.rpartition("/jobs/")
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
        **({} if properties["jobType"] == "FineTuning" else {"inputs": properties.get("inputs") or {}}),
        "outputs": outputs,
        "services": services,
        "properties": {**(properties.get("properties") or {}), "_azureml.ComputeTargetType": "amlctrain"},
    }
    return {
        "id": job_id,
        "name": name,
        "type": f"{PROVIDER}/workspaces/jobs",
        "systemData": system_data,
        "properties": filled,
        "_statuses": [["Starting", utc_now()]],
    }


def _service(kind: str, endpoint: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("port", "status", "errorMessage", "properties"))
    return {"jobServiceType": kind, "endpoint": endpoint, **nothing}
