"""Where a simulated rollout gets its requests from: a made-up world, or a ledger (ledger.py).

Both play Azure's part: they take weights at once, answer smoke tests and probes, and tell minutes when they are over.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from scripts import records
from scripts.errors import InvalidInput
from scripts.rollout.evidence import Batch, Count, Sides
from scripts.rollout.state import Weights

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, tzinfo=UTC)  # any minute does: results must not depend on the day
STABLE, CANDIDATE = "stable", "candidate"
Share = float  # from 0 to 1


class World(records.Part):
    """A model of errors. `bad_from_weight`: below it the candidate is as good as the stable (it breaks under load).

    `swing` moves requests and errors up and down by that share, once in `period_minutes`. `delay_minutes`: how long
    Azure Monitor takes to know a minute.
    """

    requests_per_minute: float = Field(default=200, ge=0, le=1e6)
    stable_bad: Share = Field(default=0.005, ge=0, le=1)
    candidate_bad: Share = Field(default=0.005, ge=0, le=1)
    bad_from_weight: int = Field(default=0, ge=0, le=100)
    swing: Share = Field(default=0, ge=0, le=1)
    period_minutes: float = Field(default=1440, ge=1)
    instances: int = Field(default=1, ge=1, le=1000)
    delay_minutes: int = Field(default=3, ge=0, le=60)
    approved: bool = True
    seed: int = Field(default=0, ge=0)


class Source:
    """What both have in common: the weights in force, the candidate's instances, minutes not told yet."""

    start = START
    instances = 1

    def __init__(self) -> None:
        self.weights: Weights = {STABLE: 100}
        self.mirror: Weights = {}
        self.candidate_instances = 1
        self.users = Sides()  # everything that users asked for while the candidate answered some of it

    def minutes(self, now: datetime) -> list[Batch]:
        """Those that are known by now and were not told before, oldest first."""
        raise NotImplementedError

    def over(self, now: datetime) -> bool:
        raise NotImplementedError

    def smoke(self, count: int) -> list[bool]:
        return [True] * count

    def drops(self, pairs: int) -> list[float]:
        """What probes come to."""
        raise NotImplementedError

    def sample(self, count: int, now: datetime) -> Batch:
        raise NotImplementedError

    def saw(self, sides: Sides) -> None:
        if self.weights.get(CANDIDATE):
            self.users = self.users.plus(sides)


class MadeUp(Source):
    """Requests drawn from a world; the same seed and run give the same requests for the same weights."""

    def __init__(self, world: World, run: int = 0) -> None:
        self.world, self.instances = world, world.instances
        super().__init__()
        self._draw = np.random.default_rng([world.seed, run])
        self._next = self.start
        self._told_late: list[Batch] = []
        self._probed = Sides()
        self._late = world.delay_minutes * MINUTE

    def minutes(self, now: datetime) -> list[Batch]:
        while self._next + MINUTE <= now:
            self._told_late.append(self._minute(self._next))
            self._next += MINUTE
        known = [batch for batch in self._told_late if batch.at + MINUTE + self._late <= now]
        del self._told_late[: len(known)]
        return known

    def over(self, now: datetime) -> bool:  # noqa: ARG002 - a made-up world goes on for ever
        return False

    def smoke(self, count: int) -> list[bool]:
        return [bool(good) for good in self._draw.random(count) >= self._shares(0, 1.0)[1]]

    def drops(self, pairs: int) -> list[float]:
        good = self._draw.random((2, pairs)) >= np.array([self._shares(self._weight, 1.0)]).T
        there, here = (pairs - int(side.sum()) for side in good)
        self._probed = self._probed.plus(sides(Count(requests=pairs, bad=here), Count(requests=pairs, bad=there)))
        return [float(one) - float(other) for one, other in zip(*good, strict=True)]

    def sample(self, count: int, now: datetime) -> Batch:
        mine = int(self._draw.binomial(count, self._weight / 100))
        drawn = self._answers(mine, count - mine, 1.0)
        self.saw(drawn)
        return batch(now, drawn)

    @property
    def _weight(self) -> int:
        return self.weights.get(CANDIDATE, 0)

    def _shares(self, weight: int, tide: float) -> tuple[float, float]:
        here = self.world.candidate_bad if weight >= self.world.bad_from_weight else self.world.stable_bad
        return min(1.0, self.world.stable_bad * tide), min(1.0, here * tide)

    def _minute(self, at: datetime) -> Batch:
        turn = (at - self.start) / (self.world.period_minutes * MINUTE)
        tide = 1 + self.world.swing * math.sin(2 * math.pi * turn)
        rate, mirrored = self.world.requests_per_minute * tide / 100, self.mirror.get(CANDIDATE, 0)
        mine = int(self._draw.poisson(rate * (self._weight or mirrored)))
        drawn = self._answers(mine, int(self._draw.poisson(rate * self.weights.get(STABLE, 0))), tide)
        self.saw(drawn)
        drawn, self._probed = drawn.plus(self._probed), Sides()  # Azure counts probes as everybody's requests
        return batch(at, drawn)

    def _answers(self, mine: int, others: int, tide: float) -> Sides:
        there, here = self._shares(self._weight or self.mirror.get(CANDIDATE, 0), tide)
        bad, bad_there = int(self._draw.binomial(mine, here)), int(self._draw.binomial(others, there))
        return sides(
            Count.model_construct(requests=mine, bad=bad), Count.model_construct(requests=others, bad=bad_there)
        )


def sides(candidate: Count, stable: Count) -> Sides:
    return Sides.model_construct(candidate=candidate, stable=stable)


def batch(at: datetime, both: Sides) -> Batch:
    """Without checks, which a simulation of many runs has no time for: these counts were drawn or checked here."""
    return Batch.model_construct(at=at, signals={"error": both}, in_a_row=0)


def world_of(**values: Any) -> World:
    """Raises InvalidInput naming the option of `rollout simulate`."""
    try:
        return World(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise InvalidInput(f"--{option}: {first['msg']}.") from None
