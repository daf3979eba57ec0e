"""`rollout run`: carry out what `decide.step` says against the real endpoint, and keep the record of it."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Literal, cast

from scripts import records, sample_requests
from scripts.endpoint import Answer, Endpoint, Requests
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.rollout import decide
from scripts.rollout.decide import Observation, Outcome, Phase, SendRequests, SetCandidate, State
from scripts.rollout.policy import Policy
from scripts.settings import Settings

if TYPE_CHECKING:
    from eval.verdict import Verdict

ROLLBACK_TRIES = 5


def check_verdict(verdict: "Verdict", endpoint: Endpoint, stable: str, candidate: str) -> None:
    """An approval is of one verdict about two models: what is deployed must be exactly what was judged."""
    if verdict.outcome != "pass":
        raise Refused(f"The verdict is {verdict.outcome}, so no traffic moves: {verdict.reason}")
    if not verdict.bound:
        raise Refused("The verdict names no model digests, so nobody knows what was judged: gate with both models.")
    for colour, judged in ((candidate, verdict.candidate_model), (stable, verdict.baseline_model)):
        deployed = endpoint.deployment_digest(colour)
        if not deployed or deployed != judged:
            raise Refused(
                f"Deployment {colour} runs model {deployed[:12] or 'without a digest'}, "
                f"but the verdict judged {str(judged)[:12]}: evaluate and gate what is deployed."
            )


def live_colour(traffic: dict[str, int]) -> str:
    """The stable deployment: the one with all the traffic. Raises Refused when a rollout seems to be under way."""
    if not traffic:
        raise InvalidInput("The endpoint has no traffic yet: make the first release with `deploy --first`.")
    name, weight = max(traffic.items(), key=lambda item: item[1])
    if weight != 100:
        raise Refused(f"Traffic is split {traffic}: finish or roll back the rollout under way first.")
    return name


class Executor:
    """Runs one rollout from 0% to its end. One instance per rollout; `record()` tells what happened."""

    def __init__(
        self,
        endpoint: Endpoint,
        requests: Requests,
        sample: Sequence[dict[str, Any]],
        policy: Policy,
        names: tuple[str, str],
        verdict_digest: str,
        tell: Callable[[str], None],
    ) -> None:
        self.endpoint, self.requests, self.policy, self.tell = endpoint, requests, policy, tell
        self.stable, self.candidate = names
        self.verdict_digest = verdict_digest
        self.state = State()
        self.bodies = cycle(sample)
        self.writes: list[records.Write] = []
        self.steps: list[records.Step] = []
        self.all: list[Answer] = []
        self.here: list[Answer] = []
        self.confirmed = False
        self.read_back: dict[str, int] = {}
        self.sending_seconds = 0.0
        self.started = self.step_started = records.now()

    def run(self) -> records.Rollout:
        """Step until the rollout has ended. Whatever goes wrong on the way, stable gets everything back."""
        try:
            while self._advance():
                pass
        except (AzureFailed, KeyboardInterrupt) as error:
            return self._rescue(f"the rollout could not go on ({str(error) or 'interrupted'})")
        ended: Literal["PROMOTED", "ROLLED_BACK"] = "PROMOTED" if self.state.phase is Phase.PROMOTED else "ROLLED_BACK"
        return self.record(ended, self.state.reason)

    def _advance(self) -> bool:
        before = self.state
        self.state, effect = decide.step(before, self._observation(), self.policy)
        left_bake = before.phase is Phase.BAKE and self.state.phase is not Phase.BAKE
        if left_bake:
            self._close_step(before)
        match effect:
            case SetCandidate(weight):
                self._set(weight)
            case SendRequests(count):
                self._send(count)
            case None:
                return self.state.phase not in (Phase.PROMOTED, Phase.ROLLED_BACK)
        return True

    def _observation(self) -> Observation:
        return Observation(self.confirmed, self._outcomes(self.here), self._outcomes(self.all))

    def _outcomes(self, answers: Sequence[Answer]) -> list[Outcome]:
        # An answer from nobody (no HTTP, no header) counts against the side that is on trial.
        return [Outcome(answer.deployment != self.stable, answer.ok) for answer in answers]

    def _set(self, weight: int) -> None:
        wanted = {self.stable: 100 - weight, self.candidate: weight}
        self.confirmed = False
        tags = {"rollout": self.state.phase.value, "stable": self.candidate if weight == 100 else self.stable}
        self.writes.append(records.Write(at=records.now(), traffic=wanted))
        self.read_back = self.endpoint.set_traffic(wanted, tags)
        self.confirmed = True
        self.here, self.step_started, self.sending_seconds = [], records.now(), 0.0
        self.tell(f"{self.candidate} {weight}% · {self.stable} {100 - weight}% (read back {self.read_back})")

    def _send(self, count: int) -> None:
        started = time.monotonic()
        answers = sample_requests.send(self.requests, list(islice(self.bodies, count)))
        self.sending_seconds += time.monotonic() - started
        self.here += answers
        self.all += answers
        self.read_back = self.endpoint.traffic()
        wanted = {self.stable: 100 - self._weight(), self.candidate: self._weight()}
        self.confirmed = self.read_back == {name: weight for name, weight in wanted.items() if weight}
        failed = sum(not answer.ok for answer in self.here)
        self.tell(f"  {len(self.here)} requests at {self._weight()}%, {failed} failed")

    def _weight(self) -> int:
        return self.policy.steps[self.state.step]

    def _close_step(self, before: State) -> None:
        sides = {
            name: [answer for answer in self.here if answer.deployment == name]
            for name in (self.stable, self.candidate)
        }
        latency = {name: sorted(answer.latency_ms for answer in side) for name, side in sides.items() if side}
        advanced = self.state.phase in (Phase.SET, Phase.PROMOTED)
        self.steps.append(
            records.Step(
                weight=self.policy.steps[before.step],
                traffic_read_back=self.read_back,
                requests={name: len(side) for name, side in sides.items()},
                errors={name: sum(not answer.ok for answer in side) for name, side in sides.items()},
                latency_ms_p50={name: _quantile(values, 0.50) for name, values in latency.items()},
                latency_ms_p95={name: _quantile(values, 0.95) for name, values in latency.items()},
                sending_seconds=round(self.sending_seconds, 1),
                decision="advance" if advanced else "roll back",
                reason=self.state.reason,
                started_at=self.step_started,
                ended_at=records.now(),
            )
        )
        self.tell(f"  {'→ ' if advanced else '← rolling back: '}{self.state.reason}")

    def _rescue(self, reason: str) -> records.Rollout:
        self.tell(f"  ← rolling back: {reason}")
        for _ in range(ROLLBACK_TRIES):
            try:
                self._set(0)
            except AzureFailed as error:
                self.tell(f"  the way back failed, trying again: {error}")
            else:
                return self.record("ROLLED_BACK", reason)
        return self.record("ROLLBACK_STUCK", f"{reason}; and Azure did not take the weights back")

    def record(self, state: str, reason: str) -> records.Rollout:
        ended: datetime = records.now()
        return records.Rollout(
            endpoint=self.endpoint.name,
            stable=self.stable,
            candidate=self.candidate,
            state=cast(Literal["PROMOTED", "ROLLED_BACK", "ROLLBACK_STUCK"], state),
            reason=reason,
            verdict_digest=self.verdict_digest,
            started_at=self.started,
            ended_at=ended,
            steps=self.steps,
            writes=self.writes,
        )


def run(
    settings: Settings,
    verdict: "Verdict",
    candidate: str,
    sample: Sequence[dict[str, Any]],
    policy: Policy,
    tell: Callable[[str], None],
) -> records.Rollout:
    """Move traffic to `candidate` step by step; return the record of a promotion or of a way back.

    Raises Refused before anything moves when the verdict does not allow it.
    """
    endpoint = Endpoint(settings)
    stable = live_colour(endpoint.traffic())
    if stable == candidate:
        raise Refused(f"Deployment {candidate} already has all the traffic.")
    check_verdict(verdict, endpoint, stable, candidate)
    with Requests(endpoint.scoring_uri()) as requests:
        names = (stable, candidate)
        return Executor(endpoint, requests, sample, policy, names, verdict.digest, tell).run()


def _quantile(sorted_values: Sequence[float], q: float) -> float:
    """Nearest-rank quantile of a non-empty sorted sequence."""
    return round(sorted_values[min(len(sorted_values) - 1, int(q * len(sorted_values)))], 1)
