"""What one step came to, as it is kept in the record."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from scripts import records
from scripts.endpoint import Answer
from scripts.rollout.state import GOING_BACK, RolloutState, Weights


@dataclass
class Judged:
    """Requests of ours that this process sent at the present weight; latencies are known of no others."""

    since: datetime
    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, answers: Sequence[Answer], seconds: float) -> None:
        self.answers += answers
        self.seconds += seconds


def step_record(
    at: RolloutState, after: RolloutState, judged: Judged, read_back: Weights, now: datetime
) -> records.Step:
    """The record of the step that `at` stands in and that `after` leaves."""
    counts = {at.stable: after.evidence.here.stable, at.candidate: after.evidence.here.candidate}
    counts.pop("", None)
    sides = {name: [each.latency_ms for each in judged.answers if each.deployment == name] for name in counts}
    latency = {name: sorted(values) for name, values in sides.items() if values}
    return records.Step(
        weight=at.weight,
        traffic_read_back=read_back,
        requests={name: count.requests for name, count in counts.items()},
        errors={name: count.bad for name, count in counts.items()},
        latency_ms_p50={name: _quantile(values, 0.50) for name, values in latency.items()},
        latency_ms_p95={name: _quantile(values, 0.95) for name, values in latency.items()},
        sending_seconds=round(judged.seconds, 1),
        decision="roll back" if after.phase in GOING_BACK else "advance",
        reason=after.reason,
        started_at=at.since,
        ended_at=now,
    )


def _quantile(sorted_values: Sequence[float], q: float) -> float:
    """Nearest-rank quantile of a non-empty sorted sequence."""
    return round(sorted_values[min(len(sorted_values) - 1, int(q * len(sorted_values)))], 1)
