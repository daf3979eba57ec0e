"""Where a job's outputs are: `azureml://jobs/JOB/outputs/NAME[/paths/…]` to the datastore path behind it."""

from __future__ import annotations

import re
from typing import Any

from emulator.context import Emulator
from emulator.errors import ArmError
from emulator.routing import WORKSPACE
from emulator.storage import locate

# Long form as the SDK writes it: azureml://subscriptions/S/resourcegroups/G/[providers/…/]workspaces/W/jobs/J/outputs/O
JOB_URI = re.compile(
    r"azureml:/*(?:/?subscriptions/.*/workspaces/[^/]+/)?jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)"
    r"(?:/paths)?(?:/(?P<rest>.*))?",
    re.IGNORECASE,
)
ARTIFACT_STORE = "workspaceartifactstore"
ARTIFACT_FOLDER = "ExperimentRun/dcid.{job}"


def datastore_uri(wsid: str, datastore: str, path: str) -> str:
    """The long azureml:// form of a path in a datastore of the workspace with this ARM id."""
    found = re.fullmatch(WORKSPACE, wsid, re.IGNORECASE)
    if found is None:
        raise ArmError(400, "UserError", f"'{wsid}' is not the id of a workspace.")
    scope = f"subscriptions/{found['sub']}/resourceGroups/{found['rg']}/workspaces/{found['ws']}"
    return f"azureml://{scope}/datastores/{datastore}/paths/{path}"


def output_uri(job: str, name: str, output: dict[str, Any]) -> str:
    """Where an output goes: the path asked for (with ${{name}} and ${{output_name}} filled in) or the service's own."""
    asked = output.get("uri")
    if not asked:
        return f"azureml://datastores/workspaceblobstore/paths/azureml/{job}/{name}/"
    text = str(asked).replace("${{name}}", job).replace("${{output_name}}", name)
    return text.replace("${{default_datastore}}", "workspaceblobstore")


def resolve_job_uri(emulator: Emulator, wsid: str, uri: str) -> str:
    """The datastore URI of a job's output; any other URI comes back as it is.

    ArmError 404 for a job that is not there, 400 for an output it does not have, a job that has not completed, or a
    place where it left no file.
    """
    found = JOB_URI.fullmatch(uri)
    if found is None:
        return uri
    job, name, rest = found["job"], found["output"], (found["rest"] or "").strip("/")
    resource = emulator.store.get(f"{wsid}/jobs/{job}")
    if resource is None:
        raise ArmError(404, "UserError", f"Job '{job}' of '{uri}' was not found in this workspace.")
    outputs, status = resource["properties"].get("outputs") or {}, resource["properties"]["status"]
    if name not in outputs and name != "artifacts":
        raise ArmError(400, "UserError", f"Job '{job}' has no output '{name}'; it has: {', '.join(sorted(outputs))}.")
    if status != "Completed":
        raise ArmError(400, "UserError", f"Job '{job}' is {status}: only outputs of a completed job can be registered.")
    if name in ("artifacts", "default"):
        resolved = datastore_uri(wsid, ARTIFACT_STORE, f"{ARTIFACT_FOLDER.format(job=job)}/{rest}")
    else:
        short = re.search(r"datastores/([^/]+)/paths/(.*)$", outputs[name]["uri"])
        if short is None:
            raise ArmError(400, "UserError", f"Output '{name}' of job '{job}' is at '{outputs[name]['uri']}'.")
        resolved = datastore_uri(wsid, short[1], f"{short[2].rstrip('/')}/{rest}".rstrip("/"))
    container, prefix = locate(emulator, emulator.store.need(wsid, "Workspace"), resolved)
    if not emulator.storage.list(container, prefix):
        raise ArmError(400, "UserError", f"There is no file at '{uri}': job '{job}' left nothing there.")
    return resolved
