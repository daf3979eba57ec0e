"""vCPU quotas: how much a train needs of which family, and Azure's refusals as one sentence."""

import math
import re
from typing import Any

ASK = "ask for more in the Azure portal (Quotas → Machine learning)"
# Sizes for which managed endpoints hold no extra fifth of the instances for their own upgrades.
NO_RESERVE = re.compile(r"_(A100|H100|H200)_|_ND\d", re.IGNORECASE)
DEPLOYMENT = re.compile(
    r"Not enough quota available for (?P<size>\w+).{0,200}?"
    r"usage/limit: (?P<used>\d+)/(?P<limit>\d+).{0,20}?needed: (?P<need>\d+)",
    re.DOTALL,
)
CLUSTER = re.compile(
    r"has a (?P<family>[\w ]{1,80}?) ?vCPU quota of (?P<limit>\d+).{0,200}?maps to (?P<need>\d+) vCPUs", re.DOTALL
)


def serving_vcpus(size: str, vcpus: int, instances: int) -> int:
    """vCPUs that one deployment takes of its family's quota."""
    return vcpus * (instances if NO_RESERVE.search(size) else math.ceil(1.2 * instances))


def no_room(size: str, need: object, where: str, used: object, limit: object) -> str:
    """The sentence, without a full stop, for a deployment that does not fit; `where` is "" or begins with a space."""
    return (
        f"no quota: {size} needs {need} more vCPUs{where} and its family has {used} of {limit} in use; {ASK}, "
        "or change `serving.instance_type` in the settings file"
    )


def key(family: str) -> str:
    """standardESv3Family and Standard_ESv3_Family_Cluster_Dedicated_vCPUs are one family."""
    return re.sub(r"[^a-z0-9]", "", family.lower()).removesuffix("clusterdedicatedvcpus")


def value(entity: Any, *names: str) -> Any:
    """The first of `names` that the SDK's entity really has: it keeps some under their names on the wire."""
    return next(found for name in names if (found := getattr(entity, name, None)) is not None)


def explain(text: str, region: str = "") -> str | None:
    """The sentence (without a full stop) for a refusal over quota in `text`; None when it is something else."""
    where = f" in {region}" if region else ""
    if found := DEPLOYMENT.search(text):
        return no_room(found["size"], found["need"], where, found["used"], found["limit"])
    if found := CLUSTER.search(text):
        return (
            f"no quota: the job needs {found['need']} vCPUs of the {found['family']}{where} and the limit is "
            f"{found['limit']}; {ASK}, or change `compute.size` in the settings file"
        )
    return None
