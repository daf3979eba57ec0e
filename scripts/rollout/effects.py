"""What a rollout can ask to be done, as data: the executor carries it out, tests and `simulate` only look at it."""

from dataclasses import dataclass

from scripts.rollout.state import Weights


@dataclass(frozen=True)
class SetTraffic:
    """Write both maps at once; what came of it is read in the next observation."""

    weights: Weights
    mirror: Weights


@dataclass(frozen=True)
class Scale:
    deployment: str
    instances: int


@dataclass(frozen=True)
class SmokeTest:
    """Requests to the candidate alone, by direct header."""

    count: int


@dataclass(frozen=True)
class Sample:
    """Requests of ours where the weights lead."""

    count: int


@dataclass(frozen=True)
class Probe:
    """Held-out prompts, each to both colours."""

    pairs: int


@dataclass(frozen=True)
class Page:
    """Call a person."""

    text: str


@dataclass(frozen=True)
class Wait:
    """Look again after so many seconds; `person`: somebody has to do something first."""

    seconds: float
    what: str
    person: bool = False


Effect = SetTraffic | Scale | SmokeTest | Sample | Probe | Page | Wait
