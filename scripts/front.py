"""What stands between users and the models: an endpoint's weights, or a record of where an application is led.

A rollout, its watchdog and the way back ask for no more than `Front`, so they are the same for both.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from scripts.endpoint import Asks, Endpoint
from scripts.rollout.policy import Policy
from scripts.settings import Settings


class Front(Protocol):
    """Everything raises AzureFailed as Azure does. A `deployment` is a colour, or an endpoint of a model's own."""

    name: str
    weighs: bool  # it has weights to share out, instances that need room, and Azure counts users' requests

    def traffic(self) -> dict[str, int]:
        """The weights now, without zeros."""

    def both(self) -> tuple[dict[str, int], dict[str, int]]:
        """Weights and mirror, as one reading."""

    def tags(self) -> dict[str, str]:
        """What the last rollout said about itself."""

    def deployments(self) -> dict[str, Any]:
        """By name, each with `provisioning_state`, `instance_count` and `model`."""

    def deployment_digest(self, name: str) -> str:
        """The digest of the model that a deployment runs. Raises InvalidInput when it is not there."""

    def exists(self, name: str) -> bool: ...

    def scale(self, name: str, instances: int) -> None: ...

    def set_traffic(
        self,
        weights: Mapping[str, int],
        tags: Mapping[str, str] | None = None,
        mirror: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """Write the weights and read them back."""

    def serving(self, digest: str) -> str:
        """The deployment that is named by its model; "" where deployments are colours."""

    def rules(self, policy: Policy) -> Policy:
        """The policy as it can be carried out here."""

    def requests(self, stable: str, candidate: str) -> AbstractContextManager[Asks]:
        """The way to ask one deployment by name, or where evidence comes from when none is named."""

    def evidence(self, sample: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """What is sent as evidence of a sample of conversations, in order."""


def front_of(settings: Settings, first: str = "") -> Front:
    """The record where there is one, else the endpoint.

    `first`: the digest of a first release's candidate. No record says anything before it, but its endpoint stands.
    """
    from scripts.serverless.led import Led

    led = Led(settings)
    return led if led.known() or (first and led.exists(led.serving(first))) else Endpoint(settings)
