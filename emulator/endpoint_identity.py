"""What the identity of an endpoint must be allowed before a deployment of it can start.

A system-assigned identity is given both roles by Azure; a user-assigned one has what somebody gave it.
https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints#authorization-error
"""

from __future__ import annotations

from emulator.errors import ArmError
from emulator.rbac import BLOBS, READ_BLOBS
from emulator.roles import may
from emulator.routing import Call
from emulator.store import Resource

PULL = "Microsoft.ContainerRegistry/registries/pull/read"
WRITE = f"{BLOBS}/containers/blobs/write"
GUIDE = "Please see troubleshooting guide, available here: https://aka.ms/oe-tsg#authorization-error"


def check(call: Call, endpoint: Resource, *, collects: bool) -> None:
    """ArmError as the service ends the deployment, unless its identity may pull the image and read the model.

    One that `collects` data has to write it too.

    A workspace that was given no registry gets one from the service, with an account of its own: nothing to check.
    """
    workspace = call.emulator.store.need(call.args["wsid"], "Workspace")["properties"]
    for user in (endpoint["identity"].get("userAssignedIdentities") or {}).values():
        principal = user["principalId"]
        registry = workspace.get("containerRegistry")
        if registry and not may(call, PULL, registry, principal=principal):
            message = f"Endpoint identity does not have pull permission on the registry. {GUIDE}"
            raise ArmError(400, "BadArgument", message)
        if not may(call, READ_BLOBS[0], workspace["storageAccount"], principal=principal, data=True):
            raise ArmError(400, "BadArgument", f"Startup task failed due to authorization error. {GUIDE}")
        if collects and not may(call, WRITE, workspace["storageAccount"], principal=principal, data=True):
            message = "Startup task failed due to incorrect role assignments on storage account when mdc is enabled."
            raise ArmError(400, "BadArgument", f"{message} {GUIDE}")
