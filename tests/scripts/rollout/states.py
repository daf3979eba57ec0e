"""A rollout's state as it would be found, for tests in which it is only read."""

from datetime import datetime
from typing import Any

from scripts.rollout.state import Phase, RolloutState


def rollout_state(
    phase: Phase, now: datetime, *, endpoint: str = "tickets", stable: str = "old", candidate: str = "new", **more: Any
) -> RolloutState:
    """All of it happened at `now`."""
    told = {"standing": {stable: 100}, "reason": "as the test says", **more}
    return RolloutState(
        endpoint=endpoint, stable=stable, candidate=candidate, epoch=1, runner="here", phase=phase, since=now,
        started_at=now, updated_at=now, **told,
    )  # fmt: skip
