"""The faults that follow a traffic write: reads that still show the weights of before, and a second writer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from emulator.endpoint_rules import check_traffic, weights
from emulator.errors import ArmError
from emulator.fault_matching import seen
from emulator.fault_plan import Faults
from emulator.faults import Drift, Stale
from emulator.resources import utc_now
from emulator.routing import Call
from emulator.store import Resource, Store

TRAFFIC = ("traffic", "mirrorTraffic")


@dataclass
class Before:
    """What reads of one endpoint show meanwhile."""

    fault: Stale
    traffic: dict[str, Any]
    tags: dict[str, str]
    until: float
    reads_left: float


def written(call: Call, old: Resource | None, new: Resource) -> None:
    """To be told of each PUT of an endpoint; those that change traffic or mirror traffic are traffic writes."""
    faults = call.emulator.faults
    if faults is None:
        return
    if old is None:  # a new endpoint, maybe under the name of a deleted one
        faults.before.pop(new["id"].lower(), None)
    if old is None or all(old["properties"][key] == new["properties"][key] for key in TRAFFIC):
        return
    about = seen(call.method, call.host, call.path)
    if stale := faults.strike(Stale, about):
        until = time.monotonic() + (float("inf") if stale.seconds is None else stale.seconds)
        left = float("inf") if stale.reads is None else stale.reads
        traffic = {key: old["properties"][key] for key in TRAFFIC}
        faults.before[new["id"].lower()] = Before(stale, traffic, old["tags"], until, left)
    if drift := faults.strike(Drift, about):
        store = call.emulator.store
        if not drift.seconds:
            _second_writer(faults, drift, store, new["id"])
            return
        timer = threading.Timer(drift.seconds, _second_writer, (faults, drift, store, new["id"]))
        timer.daemon = True
        timer.start()


def as_read(call: Call, endpoint: Resource) -> Resource:
    """The endpoint as a reader sees it now."""
    faults, key = call.emulator.faults, endpoint["id"].lower()
    if faults is None:
        return endpoint
    with faults.lock:  # handlers run in a pool of threads
        before = faults.before.get(key)
        if before is None:
            return endpoint
        if before.reads_left < 1 or time.monotonic() > before.until or not faults.holds(before.fault):
            del faults.before[key]
            return endpoint
        before.reads_left -= 1
    faults.note(before.fault, str(seen(call.method, call.host, call.path)))
    tags = before.tags if before.fault.tags else endpoint["tags"]
    return {**endpoint, "tags": tags, "properties": {**endpoint["properties"], **before.traffic}}


def _second_writer(faults: Faults, fault: Drift, store: Store, target: str) -> None:
    """Set the traffic as somebody else would: whatever goes to the mirror and not into the live traffic stays."""
    endpoint = store.get(target)
    if endpoint is None or not faults.holds(fault):
        return
    known = {item["name"].lower() for item in store.children(f"{target}/deployments")}

    def change(found: Resource) -> None:
        live = weights(fault.traffic, known, "traffic")
        mirror = {name: share for name, share in found["properties"]["mirrorTraffic"].items() if name not in live}
        check_traffic(live, mirror)
        found["properties"].update(traffic=live, mirrorTraffic=mirror)
        found["systemData"] = {
            **found["systemData"],
            "lastModifiedAt": utc_now(),
            "lastModifiedBy": "second-writer",
            "lastModifiedByType": "User",
        }

    try:
        store.update(target, change)
    except ArmError as refused:  # as the service would refuse it: the plan names a deployment that is not there
        faults.note(fault, target, error=refused.message)
        return
    if fault.seconds:
        faults.note(fault, target, traffic=fault.traffic)
