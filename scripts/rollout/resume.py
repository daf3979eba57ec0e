"""What `rollout run` does with the state and the weights that it finds: a pure function, read as a table.

No process is ever assumed to have ended well: the state says what it meant to do, the weights say how far it came.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from scripts.rollout.decide import Phase
from scripts.rollout.state import RolloutState, Weights, nonzero


class Move(StrEnum):
    START = "start"  # a rollout of its own
    CONFIRM = "confirm"  # take over; the weights of this step are in force
    WRITE = "write"  # take over; the weights of this step are still to be written
    GO_BACK = "go back"  # take over; give stable everything
    DONE = "done"  # it was promoted and still is: change nothing
    REFUSE = "refuse"


@dataclass(frozen=True)
class Asked:
    """The rollout that somebody wants now. `again`: even if this verdict's rollout was taken back before."""

    verdict_digest: str
    candidate: str
    again: bool = False


def plan(found: RolloutState | None, weights: Weights, asked: Asked, max_looks: int, now: datetime) -> tuple[Move, str]:
    """What to do, and why in one sentence."""
    if found is None:
        return Move.START, "there has been no rollout"
    same = (found.verdict_digest, found.candidate) == (asked.verdict_digest, asked.candidate)
    if found.under_way:
        return _take_over(found, nonzero(weights), max_looks) if same else (Move.REFUSE, _foreign(found, now))
    if not same or asked.again:
        return Move.START, "the rollout before has ended"
    if found.phase is Phase.PROMOTED and nonzero(weights) == {found.candidate: 100}:
        return Move.DONE, f"{found.candidate} has all the traffic since {found.updated_at:%Y-%m-%d %H:%M} UTC"
    was = f"taken back ({found.reason})" if found.phase is Phase.ROLLED_BACK else f"promoted, and {weights} is live now"
    return Move.REFUSE, (
        f"This verdict's rollout of {found.candidate} was {was}: train and judge again, "
        "or pass --again when the cause was not the model."
    )


def _take_over(found: RolloutState, weights: Weights, max_looks: int) -> tuple[Move, str]:
    after = f"taken over from {found.runner}"
    if found.phase is Phase.ROLLING_BACK:
        return Move.GO_BACK, found.reason
    if found.looks >= max_looks:
        return Move.GO_BACK, f"{after}: all {max_looks} looks are spent, so nothing more can be shown"
    if found.intent is not None and weights == nonzero(found.intent):
        return Move.CONFIRM, f"{after}: the weights it meant to write are in force"
    if weights != found.standing:
        return Move.GO_BACK, f"{after}: the weights {weights} are neither the last nor the next ones (drift)"
    if found.phase is Phase.SET:
        return Move.WRITE, f"{after}: the weights before this step are in force"
    return Move.CONFIRM, f"{after}: the weights of this step are in force"


def _foreign(found: RolloutState, now: datetime) -> str:
    if not found.candidate:
        return f"A rollback to {found.stable} is under way ({found.whose(now)}): let it end, or run it again."
    return (
        f"A rollout of {found.candidate} for verdict {found.verdict_digest[:12]} is under way "
        f"({found.phase.value}, {found.whose(now)}): let it end, or take it back with `rollout abort`."
    )
