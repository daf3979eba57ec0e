"""The way to one environment's resource group, and what stands in it: clients made once, ids asked for once."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from scripts import azure_ml
from scripts.errors import InvalidInput
from scripts.provision import names
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential

LEARNING = "Microsoft.MachineLearningServices"
REGISTRY_VERSION = "2023-07-01"
LOG_VERSION = "2023-09-01"
LOG_TYPE = "Microsoft.OperationalInsights/workspaces"


class NotSeen(InvalidInput):
    """Something that the settings name is not there, or this identity may not see it."""


@dataclass(frozen=True)
class Place:
    """Whatever is asked for and not there raises ResourceNotFoundError, and is asked for again the next time."""

    settings: Settings

    @cached_property
    def credential(self) -> "TokenCredential":
        return azure_ml.credential()

    @cached_property
    def ml(self) -> "MLClient":
        return azure_ml.client(self.settings)

    @cached_property
    def management(self) -> Any:
        from azure.mgmt.resource.resources import ResourceManagementClient

        return ResourceManagementClient(self.credential, self.settings.subscription_id)

    @cached_property
    def msi(self) -> Any:
        from azure.mgmt.msi import ManagedServiceIdentityClient

        return ManagedServiceIdentityClient(self.credential, self.settings.subscription_id)

    @cached_property
    def authorization(self) -> Any:
        from azure.mgmt.authorization import AuthorizationManagementClient

        return AuthorizationManagementClient(self.credential, self.settings.subscription_id)

    @cached_property
    def monitor(self) -> Any:
        from azure.mgmt.monitor import MonitorManagementClient

        return MonitorManagementClient(self.credential, self.settings.subscription_id)

    @property
    def subscription(self) -> str:
        return f"/subscriptions/{self.settings.subscription_id}"

    @property
    def group(self) -> str:
        return f"{self.subscription}/resourceGroups/{self.settings.resource_group}"

    @property
    def workspace_id(self) -> str:
        return f"{self.group}/providers/Microsoft.MachineLearningServices/workspaces/{self.settings.workspace}"

    @property
    def endpoint_id(self) -> str:
        return f"{self.workspace_id}/onlineEndpoints/{self.settings.endpoint}"

    @property
    def action_group_id(self) -> str:
        return f"{self.group}/providers/Microsoft.Insights/actionGroups/{names.action_group(self.settings)}"

    def identity_id(self, name: str) -> str:
        return f"{self.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"

    def registered(self, namespace: str) -> bool:
        """Whether the subscription has registered a provider. While that is under way, Azure may still refuse."""
        return str(self.management.providers.get(namespace).registration_state) == "Registered"

    @cached_property
    def workspace(self) -> Any:
        """Asked for too early, the SDK would register the provider by itself."""
        try:
            registered = self.registered(LEARNING)
        except HttpResponseError:  # whoever may not see the subscription may see the workspace
            registered = True
        if not registered:
            raise ResourceNotFoundError(f"There is no workspace: {LEARNING} is not registered.")
        return self.ml.workspaces.get(self.settings.workspace)

    @property
    def storage_id(self) -> str:
        return str(self.workspace.storage_account)

    @property
    def registry_id(self) -> str:
        """The workspace's own registry if it has one, else the one that `provision` makes for it."""
        try:
            known = self.workspace.container_registry
        except ResourceNotFoundError:
            known = None
        made = f"{self.group}/providers/Microsoft.ContainerRegistry/registries/{names.registry(self.settings)}"
        return str(known or made)

    def principal(self, identity: str) -> str:
        """The object id of a managed identity."""
        return str(self.identity(identity).principal_id)

    def identity(self, name: str) -> Any:
        return self.msi.user_assigned_identities.get(self.settings.resource_group, name)

    @cached_property
    def log_id(self) -> str:
        """The ARM id of the Log Analytics workspace whose GUID is in the settings. Raises NotSeen."""
        wanted = self.settings.log_analytics_workspace_id
        for each in self.management.resources.list(filter=f"resourceType eq '{LOG_TYPE}'"):
            found = self.management.resources.get_by_id(each.id, api_version=LOG_VERSION)
            if str((found.properties or {}).get("customerId", "")).lower() == wanted.lower():
                return str(each.id)
        raise NotSeen(
            f"log_analytics_workspace_id: this subscription has no Log Analytics workspace {wanted}, or you may not "
            "see it: correct the id, or leave it out and count requests by `monitor: metrics`."
        )
