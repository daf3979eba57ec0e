"""What `reap` looks at: the things it may find idle, as far as its rules ask about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from scripts.operate.leftovers import Checkpoints, ModelVersion


@dataclass(frozen=True)
class Colour:
    """A deployment of the environment's endpoint. `changed_at` None: nobody knows, so it is kept.

    `ours`: it carries the tag that `deploy` writes.
    """

    name: str
    changed_at: datetime | None
    state: str = "Succeeded"
    verdict: str = ""
    shape: str = ""
    instances: int = 1
    ours: bool = True


@dataclass(frozen=True)
class Endpoint:
    """An online endpoint. `train`: the tag of the train that made it; `changed_at`: it or a deployment of it; `named`:
    the colours that its tags name, in lower case."""

    name: str
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)
    changed_at: datetime | None = None
    state: str = "Succeeded"
    train: str = ""
    instances: int = 0
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Serverless:
    """A serverless endpoint. `application`: the endpoint name of the environment that made it, "" for a stranger's.
    `protected`: users are led to it, or may have to be again."""

    name: str
    application: str
    changed_at: datetime | None
    state: str = "Succeeded"
    model: str = ""
    verdict: str = ""
    protected: bool = False


@dataclass(frozen=True)
class Rollout:
    """The last rollout of the environment's endpoint: is it under way (then in which state), or when did it end?

    After a promotion `way_back` is the old colour, kept until `retain_until`. `models`: the digests of both sides.
    """

    state: str
    under_way: bool
    ended_at: datetime | None = None
    way_back: str = ""
    retain_until: datetime | None = None
    models: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Compute:
    name: str
    cluster: bool
    size: str
    min_instances: int = 0
    busy: bool = False


@dataclass(frozen=True)
class Facts:
    """`ours`: endpoint names that a settings file of this train still names; `train`: what it tags its own with.

    `named`: digests of models that a rollout's state or the tags of any endpoint name. `ended`: statuses of jobs that
    have ended. `hourly`: prices of sizes (in lower case) where they are known.
    """

    endpoint: Endpoint
    train: str
    ours: frozenset[str] = frozenset()
    colours: tuple[Colour, ...] = ()
    rollout: Rollout | None = None
    others: tuple[Endpoint, ...] = ()
    computes: tuple[Compute, ...] = ()
    serverless: tuple[Serverless, ...] = ()
    models: tuple[ModelVersion, ...] = ()
    named: frozenset[str] = frozenset()
    checkpoints: tuple[Checkpoints, ...] = ()
    ended: Sequence[str] = ()
    hourly: Mapping[str, float] = field(default_factory=dict)
    currency: str = ""
