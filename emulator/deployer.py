"""Brings scoring servers in line with stored deployments: on a PUT, and again after a restart of the emulator."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from emulator.backends import Backend, retire, spec_of, start
from emulator.containers import scoring_path
from emulator.endpoint_rules import seconds
from emulator.errors import ArmError
from emulator.resources import BUSY_STATES
from emulator.runtime import Runtime, on_start
from emulator.store import Resource

log = logging.getLogger(__name__)


def deploy(runtime: Runtime, target: str, first: Callable[[], None] = lambda: None) -> None:
    """Bring the servers in line with the stored deployment; its state tells how that ended.

    `first` comes before anything is started, and what it raises is how it ended.
    """
    store, key = runtime.emulator.store, target.lower()
    deployment = store.need(target, "Deployment")
    try:
        first()
        old = runtime.backends.get(key)
        if old is None or not old.alive or old.spec != spec_of(runtime.emulator, deployment):
            new = start(runtime, deployment)
            _take_over(runtime, target, new)
            if old is not None:
                _retire_later(runtime, old, deployment)
    except BaseException:
        set_state(runtime, target, "Failed")
        raise
    _name_path(runtime, deployment)
    set_state(runtime, target, "Succeeded")


def _name_path(runtime: Runtime, deployment: Resource) -> None:
    """The endpoint's scoring URI has the path at which its newest deployment takes requests."""
    path = scoring_path(runtime.emulator, deployment)

    def change(endpoint: Resource) -> None:
        origin = "/".join(str(endpoint["properties"].get("scoringUri") or "").split("/")[:3])
        if origin:
            endpoint["properties"]["scoringUri"] = f"{origin}{path}"

    endpoint = deployment["id"].rsplit("/deployments/", 1)[0]
    if runtime.emulator.store.get(endpoint) is not None:
        runtime.emulator.store.update(endpoint, change)


def _take_over(runtime: Runtime, target: str, new: Backend) -> None:
    with runtime.lock:
        if runtime.emulator.store.get(target) is not None:
            runtime.backends[target.lower()] = new
            return
    retire(runtime, new, patience=0)
    raise ArmError(404, "ResourceNotFound", "The deployment was deleted while it was being created.")


def _retire_later(runtime: Runtime, old: Backend, deployment: Resource) -> None:
    patience = seconds(deployment["properties"]["requestSettings"]["requestTimeout"], "requestTimeout")
    threading.Thread(target=retire, args=(runtime, old, patience), name="retire", daemon=True).start()


def set_state(runtime: Runtime, target: str, state: str) -> None:
    if runtime.emulator.store.get(target) is not None:
        runtime.emulator.store.update(target, lambda found: found["properties"].update(provisioningState=state))


def unwanted(runtime: Runtime, target: str) -> bool:
    """Whether nobody waits for this deployment any more: it is being deleted, or everything stops."""
    found = runtime.emulator.store.get(target)
    return runtime.stopping or found is None or found["properties"]["provisioningState"] == "Deleting"


@on_start
def restart(runtime: Runtime) -> None:
    """Servers die with the emulator: start those of ready deployments again; what was cut short has failed."""
    ready = []
    for endpoint in runtime.emulator.store.find(r".*/onlineEndpoints/[^/]+"):
        if endpoint["properties"]["provisioningState"] in BUSY_STATES:
            set_state(runtime, endpoint["id"], "Failed")
    for deployment in runtime.emulator.store.find(r".*/onlineEndpoints/[^/]+/deployments/[^/]+"):
        state = deployment["properties"]["provisioningState"]
        if state in BUSY_STATES:
            set_state(runtime, deployment["id"], "Failed")
        elif state == "Succeeded":
            ready.append(deployment["id"])
    runtime.restarting.update(target.lower() for target in ready)
    if ready:
        threading.Thread(target=_restart_all, args=(runtime, ready), name="restart", daemon=True).start()


def _restart_all(runtime: Runtime, targets: list[str]) -> None:
    for target in targets:
        try:
            deploy(runtime, target)
        except ArmError as error:
            log.warning("deployment %s did not come back: %s", target, error)
        finally:
            runtime.restarting.discard(target.lower())
