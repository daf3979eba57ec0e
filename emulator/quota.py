"""vCPU quotas: which sizes there are, how much of each family a region may hold, and what is refused beyond that.

Limits are generous unless EMULATOR_QUOTA says otherwise ("standardNCADSA100v4Family=0,standardESv3Family=8"). The
refusals are worded as the service words them, because people have to recognise them.
"""

from __future__ import annotations

import json
import math
import os
import re
import uuid
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.routing import ARM, Call, route
from emulator.store import Resource, Store

LOCATION = r"/subscriptions/(?P<sub>[^/]+)/providers/Microsoft\.MachineLearningServices/locations/(?P<location>[^/]+)"
VARIABLE = "EMULATOR_QUOTA"
NO_RESERVE = re.compile(r"_(A100|H100|H200)_|_ND\d", re.IGNORECASE)  # sizes for which no 20 % are held for upgrades


@dataclass(frozen=True)
class Size:
    family: str
    vcpus: int
    gpus: int
    memory_gb: float


SIZES = {
    "Standard_NC24ads_A100_v4": Size("standardNCADSA100v4Family", 24, 1, 220),
    "Standard_NC48ads_A100_v4": Size("standardNCADSA100v4Family", 48, 2, 440),
    "Standard_NC96ads_A100_v4": Size("standardNCADSA100v4Family", 96, 4, 880),
    "Standard_NC40ads_H100_v5": Size("standardNCadsH100v5Family", 40, 1, 320),
    "Standard_NC80adis_H100_v5": Size("standardNCadsH100v5Family", 80, 2, 640),
    "Standard_E2s_v3": Size("standardESv3Family", 2, 0, 16),
    "Standard_E4s_v3": Size("standardESv3Family", 4, 0, 32),
    "Standard_E8s_v3": Size("standardESv3Family", 8, 0, 64),
    "Standard_E4s_v5": Size("standardESv5Family", 4, 0, 32),
    "Standard_E8s_v5": Size("standardESv5Family", 8, 0, 64),
    "Standard_E16s_v5": Size("standardESv5Family", 16, 0, 128),
    "Standard_D4s_v5": Size("standardDSv5Family", 4, 0, 16),
    "Standard_D8s_v5": Size("standardDSv5Family", 8, 0, 32),
    "Standard_D16s_v5": Size("standardDSv5Family", 16, 0, 64),
    "Standard_DS2_v2": Size("standardDSv2Family", 2, 0, 7),
    "Standard_DS3_v2": Size("standardDSv2Family", 4, 0, 14),
    "Standard_DS4_v2": Size("standardDSv2Family", 8, 0, 28),
    "Standard_F4s_v2": Size("standardFSv2Family", 4, 0, 8),
}
LIMITS = {
    "standardNCADSA100v4Family": 960,
    "standardNCadsH100v5Family": 800,
    "standardESv3Family": 350,
    "standardESv5Family": 350,
    "standardDSv5Family": 350,
    "standardDSv2Family": 350,
    "standardFSv2Family": 350,
}


class OutOfQuota(ArmError):
    """What a deployment is refused with: the inferencing service's own answer, as text inside ARM's."""

    def body(self) -> dict[str, object]:
        inner = {
            "errors": {"VmSize": [self.message]},
            "type": "https://tools.ietf.org/html/rfc7231#section-6.5.1",
            "title": "One or more validation errors occurred.",
            "status": 400,
            "traceId": f"00-{uuid.uuid4().hex}-01",
        }
        told = f"InferencingClient HttpRequest error, error detail: {json.dumps(inner)}"
        detail = {"code": "InferencingClientCreateDeploymentFailed", "message": told, "details": []}
        return {"error": {"code": self.code, "message": "The request is invalid.", "target": None, "details": [detail]}}


def limits() -> dict[str, int]:
    """The limit of every family: the defaults under what EMULATOR_QUOTA says. ArmError 500 when that is unreadable."""
    found = dict(LIMITS)
    for pair in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
        family, _, limit = pair.partition("=")
        known = next((name for name in found if name.lower() == family.strip().lower()), None)
        if known is None or not limit.strip().isdigit():
            message = f"{VARIABLE} holds '{pair}', which is not FAMILY=VCPUS of {', '.join(found)}."
            raise ArmError(500, "InvalidQuota", message)
        found[known] = int(limit)
    return found


def spoken(family: str) -> str:
    """standardESv3Family as the portal and the messages write it."""
    return re.sub(r"^standard(.*)Family$", r"Standard \1 Family", family)


def size_of(name: str) -> Size | None:
    """A size of the table by its name in any case; None for one that it does not have, which has no limit here."""
    return next((size for known, size in SIZES.items() if known.lower() == str(name).lower()), None)


def vcpus(instance_type: str, instances: int) -> int:
    """What a deployment takes of its family's quota: a fifth more instances than asked for, for upgrades."""
    size = size_of(instance_type)
    if size is None:
        return 0
    return size.vcpus * (instances if NO_RESERVE.search(instance_type) else math.ceil(1.2 * instances))


def used(store: Store, family: str, *, but: str = "") -> int:
    """vCPUs of a family that deployments hold now, without the one whose ARM id is `but`."""
    held = 0
    for deployment in store.find(r".*/onlineEndpoints/[^/]+/deployments/[^/]+"):
        kind = deployment["properties"].get("instanceType") or ""
        size = size_of(kind)
        if size and size.family == family and deployment["id"].lower() != but.lower():
            held += vcpus(kind, int(deployment["sku"].get("capacity") or 1))
    return held


def check_deployment(call: Call, target: str, instance_type: str, instances: int) -> None:
    """OutOfQuota when a deployment would need more than its family has left."""
    size = size_of(instance_type)
    if size is None:
        return
    limit, held = limits()[size.family], used(call.emulator.store, size.family, but=target)
    need = vcpus(instance_type, instances)
    if held + need > limit:
        message = (
            f"Not enough quota available for {instance_type} in SubscriptionId {call.args['sub']}. "
            f"Current usage/limit: {held}/{limit}. Additional needed: {need} "
            "Please see troubleshooting guide, available here: https://aka.ms/oe-tsg#error-outofquota"
        )
        raise OutOfQuota(400, "BadRequest", message)


def check_job(store: Store, properties: dict[str, Any]) -> None:
    """ArmError when the cluster of a job can never have a node; the service says so once the job is under way."""
    cluster: Resource | None = store.get(properties.get("computeId") or "")
    size = size_of(cluster["properties"]["properties"]["vmSize"]) if cluster else None
    if size is None:
        return
    nodes = int((properties.get("resources") or {}).get("instanceCount") or 1)
    limit, need = limits()[size.family], nodes * size.vcpus
    if need > limit:
        family = spoken(size.family)
        message = (
            f"JobNodeCountExceedsCoreQuota: The specified subscription has a {family} vCPU quota of {limit} and is "
            f"less than the requested job node count of {nodes} which maps to {need} vCPUs. "
            f"Talk to your Subscription Admin to increase the {family} vCPU quota."
        )
        raise ArmError(400, "UserError", message)


@route("GET", ARM, LOCATION + r"/vmSizes")
def sizes(_call: Call) -> Response:
    rows = [
        {
            "name": name,
            "family": size.family,
            "vCPUs": size.vcpus,
            "gpus": size.gpus,
            "osVhdSizeMB": 1_047_552,
            "maxResourceVolumeMB": 65_536,
            "memoryGB": size.memory_gb,
            "lowPriorityCapable": True,
            "premiumIO": True,
            "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
        }
        for name, size in SIZES.items()
    ]
    return JSONResponse({"value": rows})


@route("GET", ARM, LOCATION + r"/usages")
def usages(call: Call) -> Response:
    scope = call.path.rstrip("/")
    rows = [
        {
            "id": f"{scope}/{family}",
            "type": "Microsoft.MachineLearningServices/usages",
            "unit": "Count",
            "currentValue": used(call.emulator.store, family),
            "limit": limit,
            "name": {
                "value": family,
                "localizedValue": f"{spoken(family)} Cluster Dedicated vCPUs",
            },
        }
        for family, limit in limits().items()
    ]
    return JSONResponse({"value": rows})
