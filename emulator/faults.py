"""What a fault plan may say: how this local Azure ML misbehaves on purpose, so that a rollout can be proven against it.

`python -m emulator run --faults PLAN.yaml -- COMMAND`. A plan is a list of faults; each says what it matches and when
it strikes (emulator/faults.example.yaml shows every kind). emulator/fault_matching.py tells which calls that means,
emulator/fault_plan.py keeps the plan in force, emulator/fault_injection.py and fault_traffic.py carry it out.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

# What the service calls each status; clients read the code, not only the number.
CODES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "AuthorizationFailed",
    404: "ResourceNotFound",
    408: "RequestTimeout",
    409: "Conflict",
    412: "PreconditionFailed",
    429: "TooManyRequests",
    500: "InternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}
DeploymentOperation = Literal["deployment-create", "deployment-update"]
Operation = Literal["endpoint-create", "endpoint-update", "endpoint-delete", "deployment-delete", DeploymentOperation]


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"'{text}' is not a regular expression ({error})") from error
    return text


def _known_status(status: int) -> int:
    if status not in CODES:
        raise ValueError(f"{status} is none of {', '.join(map(str, CODES))}")
    return status


Expression = Annotated[str, AfterValidator(_expression)]
Status = Annotated[int, AfterValidator(_known_status)]
Seconds = Annotated[float, Field(ge=0, le=3600)]
Weights = dict[str, Annotated[int, Field(ge=0, le=100)]]


class Fault(BaseModel):
    """What every fault has. Its turn comes with the calls it matches: `after` of them pass, then `times` are struck."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    endpoint: str | None = None  # a name, or a pattern such as phi-*; left out: any
    after: int = Field(0, ge=0)
    times: int | None = Field(None, ge=1)  # left out: always
    share: float | None = Field(None, gt=0, le=1)  # of the calls whose turn it is, drawn by the plan's seed
    after_seconds: Seconds = 0  # sleeps that long after the plan was read, and counts nothing meanwhile


class OfDeployment(Fault):
    deployment: str | None = None


class OfRequest(OfDeployment):
    """Any request of the management API; with `host` any other that the emulator answers, scoring apart."""

    host: Expression = r"management\.azure\.com"
    method: Literal["GET", "PUT", "PATCH", "POST", "DELETE"] | None = None
    path: Expression | None = None  # searched in the path, upper and lower case alike
    resource: Literal["endpoint", "deployment"] | None = None  # the endpoint itself, or one of its deployments


class Slow(OfDeployment):
    kind: Literal["slow"]
    operation: Operation | None = None
    seconds: Seconds


class Stale(Fault):
    kind: Literal["stale"]
    seconds: Seconds | None = None
    reads: int | None = Field(None, ge=1)
    tags: bool = False  # the tags of before, too

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        return _exactly_one(self, "seconds", "reads")


class Conflict(OfDeployment):
    kind: Literal["conflict"]
    # The resource and the endpoint above it, or whatever goes on anywhere at that endpoint.
    scope: Literal["resource", "endpoint"] = "resource"


class Lost(OfRequest):
    kind: Literal["lost"]


class Refuse(OfRequest):
    kind: Literal["status"]
    status: Status
    retry_after: int | None = Field(None, ge=0, le=3600)


class Provisioning(OfDeployment):
    kind: Literal["provisioning"]
    operation: DeploymentOperation | None = None
    ends: Literal["failed", "stuck"]
    code: str = "ResourceNotReady"
    message: str = "User container has crashed or terminated (by the fault plan)."


class Cluster(Fault):
    kind: Literal["cluster"]
    cluster: str | None = None
    code: str = "ClusterProvisioningFailed"
    message: str = "The cluster could not be provisioned (by the fault plan)."


class Drift(Fault):
    kind: Literal["drift"]
    traffic: Weights
    seconds: Seconds = 0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if sum(self.traffic.values()) not in (0, 100):
            raise ValueError(f"traffic sums to {sum(self.traffic.values())}, it must be 0 or 100")
        return self


class Scoring(OfDeployment):
    kind: Literal["scoring"]
    model_status: int | None = Field(None, ge=201, le=599)  # the container's; the caller gets 424
    status: Status | None = None  # the service's own, such as 429 or 503: the container is not asked
    seconds: Seconds | None = None  # slower by that much
    hang: Literal[True] | None = None  # until the deployment's request timeout

    @model_validator(mode="after")
    def _one_harm(self) -> Self:
        return _exactly_one(self, "model_status", "status", "seconds", "hang")


F = TypeVar("F", bound=Fault)
AnyFault = Annotated[
    Slow | Stale | Conflict | Lost | Refuse | Provisioning | Cluster | Drift | Scoring, Field(discriminator="kind")
]


class Plan(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    seed: int = 0
    faults: tuple[AnyFault, ...] = Field(strict=False)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [fault.name for fault in self.faults]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two faults are named {twice[0]}; each needs a name of its own")
        return self


def _exactly_one(fault: F, *keys: str) -> F:
    given = [key for key in keys if getattr(fault, key) is not None]
    if len(given) != 1:
        raise ValueError(f"say exactly one of {', '.join(keys)}, not {' and '.join(given) or 'none'}")
    return fault
