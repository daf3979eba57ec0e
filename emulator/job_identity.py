"""What the identity of a job's compute must be allowed before the job can start: pull its image, reach its data.

A compute without a user-assigned identity reaches both with the workspace's own rights: nothing to check. A workspace
that was given no registry gets one from the service, with an account of its own.
https://learn.microsoft.com/azure/machine-learning/how-to-identity-based-service-authentication
"""

from __future__ import annotations

from emulator.context import Emulator
from emulator.endpoint_identity import PULL, WRITE
from emulator.errors import ArmError
from emulator.rbac import READ_BLOBS
from emulator.roles import held
from emulator.store import Resource

NO_IMAGE = (
    "Failed to pull Docker image of environment {environment}. This error may occur because the compute could not "
    "authenticate with the Docker registry to pull the image. If using ACR please ensure the ACR has Admin user "
    "enabled or a Managed Identity with `AcrPull` access to the ACR is assigned to the compute."
)
NO_DATA = (
    "Failed to mount the job's inputs and outputs: StreamError(PermissionDenied(Some(This request is not authorized to "
    "perform this operation using this permission.))): AuthorizationPermissionMismatch"
)


def principals(emulator: Emulator, compute_id: str | None) -> list[str]:
    """Who a job on this compute is, by object id; nobody for a compute without identities of its own."""
    compute = emulator.store.get(compute_id) if compute_id else None
    users = ((compute or {}).get("identity") or {}).get("userAssignedIdentities") or {}
    found = [emulator.store.get(each) for each in users]
    return [each["properties"]["principalId"] for each in found if each]


def check(emulator: Emulator, workspace: Resource, job: Resource) -> None:
    """ArmError, as the service ends the job, unless the identity may pull the image and read and write the storage."""
    registry, account = workspace["properties"].get("containerRegistry"), workspace["properties"]["storageAccount"]
    for who in principals(emulator, job["properties"].get("computeId")):
        if registry and not any(role.allows(PULL) for role in held(emulator.store, who, registry)):
            environment = str(job["properties"].get("environmentId", "")).rpartition("/environments/")[2]
            raise ArmError(400, "ImagePullFailure", NO_IMAGE.format(environment=environment))
        roles = [*held(emulator.store, who, account)]
        if not all(any(role.allows_data(action) for role in roles) for action in (READ_BLOBS[0], WRITE)):
            raise ArmError(403, "ScriptExecution.StreamAccess.Authentication", NO_DATA)
