"""What a rollout can see: read by the executor, made up by `simulate`, judged by `decide`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scripts.rollout.evidence import NO_ANSWERS, Batch, Graded
from scripts.rollout.state import Weights

STANDS, MOVES = "Succeeded", ("Creating", "Updating", "Scaling")  # what Azure calls a deployment's state


@dataclass(frozen=True)
class Deployed:
    """A deployment as Azure tells it; `model` is the digest of what it runs."""

    state: str
    model: str
    instances: int


@dataclass(frozen=True)
class Observation:
    """What is seen now. None is "could not be read", which is never the same as nothing.

    `batches`: requests, oldest first. `smoke`, `drops` (see Evidence.with_pairs) and `graded`: what the effect just
    carried out came to. `slow_ms`: the stable's p95.
    """

    weights: Weights | None
    mirror: Weights | None
    deployed: Mapping[str, Deployed] | None
    batches: Sequence[Batch] | None = ()
    smoke: Sequence[bool] = ()
    drops: Sequence[float] = ()
    graded: Graded = NO_ANSWERS
    slow_ms: float | None = None

    def plus(self, gained: "Observation") -> "Observation":
        """This, and what an effect came to. What could not be read stays unread."""
        return replace(
            self,
            batches=None if self.batches is None else [*self.batches, *(gained.batches or ())],
            smoke=[*self.smoke, *gained.smoke],
            drops=[*self.drops, *gained.drops],
            graded=self.graded.plus(gained.graded),
            slow_ms=self.slow_ms if gained.slow_ms is None else gained.slow_ms,
        )

    @property
    def blind(self) -> bool:
        return self.weights is None or self.mirror is None or self.deployed is None or self.batches is None
