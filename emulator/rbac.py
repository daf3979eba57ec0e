"""Azure's role-based access control, pure: what a role allows, where it counts, and the built-in roles.

The built-in roles are those a release train uses, with their real ids and permissions.
https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NAMESPACE = "Microsoft.Authorization"
ML = "Microsoft.MachineLearningServices/workspaces"
BLOBS = "Microsoft.Storage/storageAccounts/blobServices"


@dataclass(frozen=True)
class Permissions:
    """What a role allows; `but` takes away from `actions`, `data` are actions on data."""

    actions: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    data: tuple[str, ...] = ()

    def allows(self, action: str) -> bool:
        return any(matches(one, action) for one in self.actions) and not any(matches(one, action) for one in self.but)

    def allows_data(self, action: str) -> bool:
        return any(matches(one, action) for one in self.data)


@dataclass(frozen=True)
class BuiltIn:
    id: str
    name: str
    permissions: Permissions


READ_BLOBS = (f"{BLOBS}/containers/blobs/read",)
BUILT_IN = (
    BuiltIn("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", Permissions(("*",))),
    BuiltIn(
        "b24988ac-6180-42a0-ab88-20f7382dd24c",
        "Contributor",
        Permissions(
            ("*",),
            (f"{NAMESPACE}/*/Delete", f"{NAMESPACE}/*/Write", f"{NAMESPACE}/elevateAccess/Action"),
        ),
    ),
    BuiltIn("acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", Permissions(("*/read",))),
    BuiltIn(
        "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        "User Access Administrator",
        Permissions(("*/read", f"{NAMESPACE}/*", "Microsoft.Support/*")),
    ),
    BuiltIn(
        "7f951dda-4ed3-4680-a7ca-43fe172d538d",
        "AcrPull",
        Permissions(("Microsoft.ContainerRegistry/registries/pull/read",)),
    ),
    BuiltIn(
        "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
        "Storage Blob Data Reader",
        Permissions((f"{BLOBS}/containers/read", f"{BLOBS}/generateUserDelegationKey/action"), (), READ_BLOBS),
    ),
    BuiltIn(
        "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
        "Storage Blob Data Contributor",
        Permissions(
            (
                *(f"{BLOBS}/containers/{verb}" for verb in ("delete", "read", "write")),
                f"{BLOBS}/generateUserDelegationKey/action",
            ),
            (),
            (*READ_BLOBS, *(f"{BLOBS}/containers/blobs/{verb}" for verb in ("delete", "write", "add/action"))),
        ),
    ),
    BuiltIn(
        "f6c7c914-8db3-469d-8ca1-694a8f32e121",
        "AzureML Data Scientist",
        Permissions(
            tuple(f"{ML}/*/{verb}" for verb in ("read", "action", "delete", "write")),
            (
                *(f"{ML}/{verb}" for verb in ("delete", "write", "listKeys/action")),
                *(f"{ML}/computes/{verb}" for verb in ("*/write", "*/delete", "listKeys/action")),
                *(f"{ML}/{kind}/{verb}" for kind in ("hubs", "featurestores") for verb in ("write", "delete")),
            ),
        ),
    ),
    BuiltIn(
        "43d0d8ad-25c7-4714-9337-8ba259a9fe05",
        "Monitoring Reader",
        Permissions(("*/read", "Microsoft.OperationalInsights/workspaces/search/action", "Microsoft.Support/*")),
    ),
    BuiltIn(
        "73c42c96-874c-492b-b04d-ab87d138a893",
        "Log Analytics Reader",
        Permissions(("*/read", "Microsoft.OperationalInsights/workspaces/search/action", "Microsoft.Support/*")),
    ),
    BuiltIn(
        "f1a07417-d97a-45cb-824c-7a7467783830",
        "Managed Identity Operator",
        Permissions(
            (
                "Microsoft.ManagedIdentity/userAssignedIdentities/*/read",
                "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action",
                f"{NAMESPACE}/*/read",
                "Microsoft.Resources/subscriptions/resourceGroups/read",
            )
        ),
    ),
    BuiltIn(
        "635dd51f-9968-44d3-b7fb-6d9a6bd613ae",
        "AzureML Metrics Writer (preview)",
        Permissions((f"{ML}/metrics/*/write",)),
    ),
    BuiltIn(
        "a97b65f3-24c7-4388-baec-2e87135dc908",
        "Cognitive Services User",
        Permissions(
            ("Microsoft.CognitiveServices/*/read", "Microsoft.CognitiveServices/accounts/listkeys/action"),
            (),
            ("Microsoft.CognitiveServices/*",),
        ),
    ),
)


def matches(pattern: str, action: str) -> bool:
    """Whether a role's action, in which * stands for anything (slashes too, and nothing), covers an action.

    As in Azure, `x/*/read` covers `x/read` as well: what is between may be empty.
    """
    expression = re.escape(pattern).replace(r"/\*/", r"(?:/.*)?/").replace(r"\*", ".*")
    return re.fullmatch(expression, action, re.IGNORECASE) is not None


def covers(scope: str, target: str) -> bool:
    """Whether a role on `scope` counts for `target`: itself or what is below it."""
    above, below = scope.strip("/").lower(), target.strip("/").lower()
    return not above or below == above or below.startswith(above + "/")
