"""Two more figures of the rollout: histories in which every promise was kept, and what a tick costs besides Azure."""

import os
import time
from datetime import timedelta
from statistics import median
from typing import Any, cast

from scripts.endpoint import Requests
from scripts.rollout.executor import Executor, Tools
from scripts.rollout.look import Eyes
from scripts.rollout.monitor_minutes import Minute
from scripts.rollout.policy import Policy
from scripts.rollout.state import RolloutState
from scripts.rollout.store import Tenure
from tests.scripts.rollout.world import HELLO, World, quiet

RUNS = 50_000


def histories() -> tuple[int, dict[str, int]]:
    """How many ran, and how many of them reached each state. Raises AssertionError with the first broken promise."""
    os.environ["ROLLOUT_RUNS"] = str(RUNS)
    from hypothesis.stateful import run_state_machine_as_test

    from tests.scripts.rollout import test_decide

    run_state_machine_as_test(test_decide.Histories, settings=test_decide.TestHistories.settings)
    return sum(test_decide.ENDS.values()), {phase.value: count for phase, count in test_decide.REACHED.items()}


def tick_ms(state: RolloutState, policy: Policy, minutes: int = 10) -> float:
    """Median of 100 ticks, each with so many new minutes to judge, where Azure answers at once."""
    return 1000 * median(_tick(state, policy, minutes) for _ in range(100))


def _tick(state: RolloutState, policy: Policy, minutes: int) -> float:
    world = World(dict(state.standing))
    world.models = {state.stable: state.stable_model, state.candidate: state.candidate_model}
    actor, now = world.actor(), state.since + timedelta(minutes=minutes)
    found = [Minute(state.since + timedelta(minutes=each), good=100, bad=0, slow=0) for each in range(minutes)]
    eyes = Eyes(actor.endpoint, cast(Any, _Counted(found)))
    tools = Tools(actor.endpoint, cast(Requests, actor), HELLO, HELLO, eyes)
    mine = Tenure(actor.store, state, None)
    executor = Executor(tools, policy, mine, quiet, clock=lambda: now)
    started = time.perf_counter()
    executor.tick()
    seconds = time.perf_counter() - started
    assert executor.now.evidence.whole.candidate.requests == 100 * minutes, executor.now
    return seconds


class _Counted:
    def __init__(self, minutes: list[Minute]) -> None:
        self.found = minutes

    def minutes(self, colours: list[str], *_: object, **__: object) -> dict[str, list[Minute]]:
        return dict.fromkeys(colours, self.found)
