"""The executor's eyes: everything a rollout can see of Azure, read afresh, as one `Observation`."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from scripts.endpoint import Answer
from scripts.errors import AzureFailed
from scripts.front import Front
from scripts.rollout.evidence import Batch, Count, Sides
from scripts.rollout.monitor import Minute, Monitor
from scripts.rollout.observation import Deployed, Observation
from scripts.rollout.policy import Policy
from scripts.rollout.state import RolloutState

MINUTE = timedelta(minutes=1)
Mirrored = Callable[[Sequence[str], datetime, datetime], dict[str, list[Minute]]]


class Eyes:
    """`monitor` None: nobody else's requests are counted. `mirrored` counts copies, which are no users' requests.

    Model digests are asked for once per deployed model.
    """

    def __init__(self, endpoint: Front, monitor: Monitor | None, mirrored: Mirrored | None = None) -> None:
        self._endpoint, self._monitor, self._mirrored = endpoint, monitor, mirrored
        self._digests: dict[str, str] = {}

    def look(self, state: RolloutState, policy: Policy, now: datetime) -> Observation:
        """What cannot be read is None; nothing is raised for it."""
        try:
            weights, mirror = self._endpoint.both()
            deployed = {name: self._deployed(name, each) for name, each in self._endpoint.deployments().items()}
        except AzureFailed:
            return Observation(None, None, None)
        try:
            batches = self._minutes(state, policy, now)
        except AzureFailed:
            return Observation(weights, mirror, deployed, None)
        return Observation(weights, mirror, deployed, batches)

    def _deployed(self, name: str, deployment: Any) -> Deployed:
        model = str(deployment.model)
        if model not in self._digests:
            self._digests[model] = self._endpoint.deployment_digest(name)
        stands = deployment.provisioning_state  # an enumeration of the SDK's, whose str() is not its value
        return Deployed(
            str(getattr(stands, "value", stands)), self._digests[model], int(deployment.instance_count or 1)
        )

    def _minutes(self, state: RolloutState, policy: Policy, now: datetime) -> list[Batch]:
        if self._monitor is None or policy.evidence != "users":
            return []
        sides = [name for name in (state.candidate, state.stable) if name]
        since = state.seen_until + MINUTE if state.seen_until else state.started_at
        found = self._monitor.minutes(sides, since, now, slow_ms=state.slow_ms)
        if state.mirror and self._mirrored:
            found |= self._mirrored([state.candidate], since, now)
        return batches_of(found.get(state.candidate, []), found.get(state.stable, []))


def batches_of(candidate: Sequence[Minute], stable: Sequence[Minute]) -> list[Batch]:
    """The minutes that either side has, oldest first; a side without one had no request then."""
    mine, other = ({minute.at: minute for minute in side} for side in (candidate, stable))
    return [Batch(at=at, signals=_signals(mine.get(at), other.get(at))) for at in sorted({*mine, *other})]


def _signals(candidate: Minute | None, stable: Minute | None) -> dict[str, Sides]:
    signals = {"error": Sides(candidate=_errors(candidate), stable=_errors(stable))}
    told = [minute for minute in (candidate, stable) if minute]
    if all(minute.slow is not None for minute in told):
        signals["slow"] = Sides(candidate=_slow(candidate), stable=_slow(stable))
    return signals


def _errors(minute: Minute | None) -> Count:
    return Count(requests=minute.good + minute.bad, bad=minute.bad) if minute else Count()


def _slow(minute: Minute | None) -> Count:
    return Count(requests=minute.good + minute.bad, bad=minute.slow or 0) if minute else Count()


def batch_of(answers: Sequence[Answer], stable: str, at: datetime, slow_ms: float | None) -> Batch:
    """Requests of ours, in order of sending. An answer from nobody counts against the side that is on trial."""
    mine = [answer for answer in answers if not stable or answer.deployment != stable]
    other = [answer for answer in answers if stable and answer.deployment == stable]
    signals = {"error": Sides(candidate=_failed(mine), stable=_failed(other))}
    if slow_ms is not None:
        signals["slow"] = Sides(candidate=_late(mine, slow_ms), stable=_late(other, slow_ms))
    return Batch(at=at, signals=signals, in_a_row=longest_row(mine))


def longest_row(answers: Sequence[Answer]) -> int:
    longest = row = 0
    for answer in answers:
        row = 0 if answer.ok else row + 1
        longest = max(longest, row)
    return longest


def _failed(answers: Sequence[Answer]) -> Count:
    return Count(requests=len(answers), bad=sum(not answer.ok for answer in answers))


def _late(answers: Sequence[Answer], slow_ms: float) -> Count:
    return Count(requests=len(answers), bad=sum(not answer.ok or answer.latency_ms > slow_ms for answer in answers))
