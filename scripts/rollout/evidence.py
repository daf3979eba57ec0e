"""What the requests of one step came to, as it is kept in the record."""

from collections.abc import Sequence
from datetime import datetime

from scripts import records
from scripts.endpoint import Answer
from scripts.rollout.state import RolloutState


def step_record(
    at: RolloutState,
    answers: Sequence[Answer],
    *,
    read_back: dict[str, int],
    sending_seconds: float,
    decision: str,
    reason: str,
    started_at: datetime,
) -> records.Step:
    """The record of the step that `at` stands in, from the answers gathered at its weight."""
    names = [name for name in (at.stable, at.candidate) if name]
    sides = {name: [answer for answer in answers if answer.deployment == name] for name in names}
    latency = {name: sorted(answer.latency_ms for answer in side) for name, side in sides.items() if side}
    return records.Step(
        weight=at.weight,
        traffic_read_back=read_back,
        requests={name: len(side) for name, side in sides.items()},
        errors={name: sum(not answer.ok for answer in side) for name, side in sides.items()},
        latency_ms_p50={name: _quantile(values, 0.50) for name, values in latency.items()},
        latency_ms_p95={name: _quantile(values, 0.95) for name, values in latency.items()},
        sending_seconds=round(sending_seconds, 1),
        decision=decision,
        reason=reason,
        started_at=started_at,
        ended_at=records.now(),
    )


def _quantile(sorted_values: Sequence[float], q: float) -> float:
    """Nearest-rank quantile of a non-empty sorted sequence."""
    return round(sorted_values[min(len(sorted_values) - 1, int(q * len(sorted_values)))], 1)
