"""The resource providers: of whom a subscription must have heard before anything of theirs can be made in it."""

import time

from scripts.errors import AzureFailed
from scripts.provision.place import LEARNING, Place
from scripts.provision.resource import Resource

PROVIDERS = {
    LEARNING: "workspace, cluster, endpoint",
    "Microsoft.ContainerRegistry": "images of the environments",
    "Microsoft.KeyVault": "the workspace's own secrets",
    "Microsoft.Storage": "data, models, verdicts",
    "Microsoft.OperationalInsights": "where the workspace's insights are kept",
    "Microsoft.Insights": "metrics, logs, alerts",
    "Microsoft.ManagedIdentity": "identities without secrets",
}
WAIT_SECONDS = 900.0
LONGEST_PAUSE = 5.0


def resources(place: Place) -> list[Resource]:
    """One each. The first that is missing starts all of them, so that Azure works on them side by side."""
    started: list[str] = []

    def create(namespace: str) -> None:
        if not started:
            started.extend(name for name in PROVIDERS if not place.registered(name))
            for name in started:
                place.management.providers.register(name)
        wait(place, namespace)

    def one(namespace: str, why: str) -> Resource:
        return Resource(
            "provider",
            namespace,
            lambda: None if namespace in started else place.registered(namespace) or None,
            lambda: create(namespace),
            where="subscription",
            why=why,
        )

    return [one(namespace, why) for namespace, why in PROVIDERS.items()]


def wait(place: Place, namespace: str) -> None:
    """Until Azure has registered it. Raises AzureFailed after WAIT_SECONDS."""
    until, pause = time.monotonic() + WAIT_SECONDS, 0.1
    while not place.registered(namespace):
        if time.monotonic() > until:
            raise AzureFailed(
                f"Azure has not registered {namespace} within {WAIT_SECONDS / 60:.0f} minutes. It goes on by itself: "
                "run this again in a while."
            )
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
