"""What `rollout start` and `run` do with the state that they find: a pure function, read as a table.

No process is ever assumed to have ended well. How far it came is not asked here: `decide.step` reads that from the
weights, whoever runs the rollout.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from scripts.rollout.state import Phase, RolloutState, Weights, nonzero


class Move(StrEnum):
    START = "start"  # a rollout of its own
    TAKE_OVER = "take over"
    DONE = "done"  # it was promoted and still is: change nothing
    REFUSE = "refuse"


@dataclass(frozen=True)
class Asked:
    """The rollout that somebody wants now. `again`: even if this verdict's rollout was taken back before."""

    verdict_digest: str
    candidate: str
    again: bool = False


def plan(found: RolloutState | None, weights: Weights, asked: Asked, now: datetime) -> tuple[Move, str]:
    """What to do, and why in one sentence."""
    if found is None:
        return Move.START, "there has been no rollout"
    same = (found.verdict_digest, found.candidate) == (asked.verdict_digest, asked.candidate)
    if found.under_way:
        if same:
            return Move.TAKE_OVER, f"taken over from {found.runner} in {found.phase.value}: {found.reason}"
        return Move.REFUSE, _foreign(found, now)
    if not same or asked.again:
        return Move.START, "the rollout before has ended"
    if found.phase is Phase.PROMOTED and nonzero(weights) == {found.candidate: 100}:
        return Move.DONE, f"{found.candidate} has all the traffic since {found.updated_at:%Y-%m-%d %H:%M} UTC"
    was = f"taken back ({found.reason})" if found.phase is Phase.ROLLED_BACK else f"promoted, and {weights} is live now"
    return Move.REFUSE, (
        f"This verdict's rollout of {found.candidate} was {was}: train and judge again, "
        "or pass --again when the cause was not the model."
    )


def _foreign(found: RolloutState, now: datetime) -> str:
    if not found.candidate:
        return f"A rollback to {found.stable} is under way ({found.whose(now)}): let it end, or run it again."
    return (
        f"A rollout of {found.candidate} for verdict {found.verdict_digest[:12]} is under way "
        f"({found.phase.value}, {found.whose(now)}): let it end, or take it back with `rollout abort`."
    )
