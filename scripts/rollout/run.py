"""`rollout run`: carry out what `decide.step` says against the real endpoint, and keep the state as it goes.

Around every write of weights: the state says what is meant, then the weights are written and read back, then the state
says what is in force. So a process may die anywhere and the next one knows how far it came.
"""

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Literal

from scripts import records, sample_requests
from scripts.endpoint import Answer, Endpoint, Requests
from scripts.errors import AzureFailed
from scripts.rollout import back, decide, state
from scripts.rollout.approval import Approval
from scripts.rollout.begin import begin
from scripts.rollout.decide import Observation, Outcome, Phase, SendRequests, SetCandidate, State
from scripts.rollout.evidence import step_record
from scripts.rollout.policy import Policy
from scripts.rollout.state import GOING_BACK, TERMINAL, RolloutState, all_to, nonzero
from scripts.rollout.store import BlobStore, Fenced, Tenure
from scripts.settings import Settings

if TYPE_CHECKING:
    from eval.verdict import Verdict

Ending = Literal["PROMOTED", "ROLLED_BACK", "ROLLBACK_STUCK"]


class Executor:
    """Runs one rollout from where its state stands to its end. One instance per process and rollout."""

    def __init__(
        self,
        endpoint: Endpoint,
        requests: Requests,
        sample: Sequence[dict[str, Any]],
        policy: Policy,
        tenure: Tenure,
        tell: Callable[[str], None],
        *,
        in_force: bool = False,
    ) -> None:
        self.endpoint, self.requests, self.tenure, self.tell = endpoint, requests, tenure, tell
        self.policy = policy.model_copy(update={"steps": tenure.state.plan})  # as it was when this rollout began
        self.bodies = cycle(sample)
        self.here: list[Answer] = []
        self.confirmed = in_force
        self.read_back = tenure.state.standing
        self.sending_seconds = 0.0
        self.step_started = records.now()

    @property
    def now(self) -> RolloutState:
        return self.tenure.state

    def run(self) -> records.Rollout:
        """Step until the rollout has ended. Whatever goes wrong on the way, stable gets everything back.

        Raises Fenced when another process goes on with this rollout; this one then touches nothing more.
        """
        try:
            try:
                while self._advance():
                    pass
            except Fenced:
                raise
            except (Exception, KeyboardInterrupt) as error:
                return self._rescue(f"the rollout could not go on ({str(error) or type(error).__name__})")
        except Fenced as fenced:
            return self._step_aside(fenced)
        return record_of(self.now, "PROMOTED" if self.now.phase is Phase.PROMOTED else "ROLLED_BACK")

    def _advance(self) -> bool:
        before = self.now.decider()
        after, effect = decide.step(before, self._observation(), self.policy)
        steps = self.now.steps
        if before.phase is Phase.BAKE and after.phase is not Phase.BAKE:
            steps = [*steps, self._closed(after)]
        changes = {"phase": after.phase, "step": after.step, "looks": after.looks, "reason": after.reason}
        match effect:
            case SetCandidate(weight):
                self._set(weight, {**changes, "steps": steps})
            case SendRequests(count):
                self.tenure.put(**changes)
                self._send(count)
            case None:
                self.tenure.put(**changes, steps=steps)
                return after.phase not in TERMINAL
        return True

    def _observation(self) -> Observation:
        return Observation(self.confirmed, self._outcomes(self.here), self.now.tally.outcomes())

    def _outcomes(self, answers: Sequence[Answer]) -> list[Outcome]:
        # An answer from nobody (no HTTP, no header) counts against the side that is on trial.
        stable = self.now.stable
        return [Outcome(not stable or answer.deployment != stable, answer.ok) for answer in answers]

    def _set(self, weight: int, changes: dict[str, Any]) -> None:
        wanted = self.now.split(weight)
        rising = weight > 0
        self.confirmed = False
        write = records.Write(at=records.now(), traffic=wanted)
        self.tenure.put(**changes, intent=wanted, writes=[*self.now.writes, write])
        if rising:
            self.tenure.check()
        live = self.now.candidate if weight == 100 else self.now.stable
        tags = state.tags(self.now.phase, live, self.now.reason)
        self.read_back = self.endpoint.set_traffic(wanted, tags)
        if rising:  # somebody may have taken it over while Azure wrote
            self.tenure.check()
        self.tenure.put(intent=None, standing=self.read_back)
        self.confirmed = True
        self.here, self.step_started, self.sending_seconds = [], records.now(), 0.0
        told = " · ".join(f"{name} {share}%" for name, share in reversed(wanted.items())) or "nobody gets traffic"
        self.tell(f"{told} (read back {self.read_back})")

    def _send(self, count: int) -> None:
        started = time.monotonic()
        answers = sample_requests.send(self.requests, list(islice(self.bodies, count)))
        self.sending_seconds += time.monotonic() - started
        self.here += answers
        self.tenure.put(tally=self.now.tally.plus(self._outcomes(answers)))
        self.read_back = self.endpoint.traffic()
        self.confirmed = self.read_back == nonzero(self.now.split(self.now.weight))
        failed = sum(not answer.ok for answer in self.here)
        self.tell(f"  {len(self.here)} requests at {self.now.weight}%, {failed} failed")

    def _closed(self, after: State) -> records.Step:
        advanced = after.phase in (Phase.SET, Phase.PROMOTED)
        self.tell(f"  {'→ ' if advanced else '← rolling back: '}{after.reason}")
        return step_record(
            self.now,
            self.here,
            read_back=self.read_back,
            sending_seconds=self.sending_seconds,
            decision="advance" if advanced else "roll back",
            reason=after.reason,
            started_at=self.step_started,
        )

    def _rescue(self, reason: str) -> records.Rollout:
        self.tell(f"  ← rolling back: {reason}")
        for attempt in range(back.ROLLBACK_TRIES):
            # Azure refuses a map that names a deployment which is gone, so later tries leave the candidate out.
            wanted = self.now.split(0) if attempt == 0 else all_to(self.now.stable)
            write = records.Write(at=records.now(), traffic=wanted)
            self._note(phase=Phase.ROLLING_BACK, reason=reason, intent=wanted, writes=[*self.now.writes, write])
            try:
                self.endpoint.set_traffic(wanted, state.tags(Phase.ROLLING_BACK, self.now.stable, reason))
            except AzureFailed as error:
                self.tell(f"  the way back failed, trying again: {error}")
                time.sleep(back.RETRY_SECONDS * attempt)
            else:
                self._note(phase=Phase.ROLLED_BACK, reason=reason, intent=None, standing=all_to(self.now.stable))
                return record_of(self.now, "ROLLED_BACK")
        # The state stays on its way back, so that the watchdog goes on with it.
        self._note(reason=f"{reason}; and Azure did not take the weights back")
        return record_of(self.now, "ROLLBACK_STUCK")

    def _note(self, **changes: Any) -> None:
        """Keep the state while going back. Going back never waits for it: storage may be what failed."""
        try:
            self.tenure.put(**changes)
        except AzureFailed as error:
            self.tell(f"  the state could not be kept: {error}")
            self.tenure.state = self.now.changed(**changes)

    def _step_aside(self, fenced: Fenced) -> records.Rollout:
        """Fenced off: undo a raise of ours that may have crossed somebody's way back, else touch nothing."""
        fresh = self.tenure.newest()
        if fresh is None or fresh.phase not in GOING_BACK:
            raise fenced
        self.tell(f"  ← {fenced}")
        back.give_all(self.endpoint, fresh.stable, state.tags(fresh.phase, fresh.stable, fresh.reason), self.tell)
        ours = fresh.verdict_digest == self.now.verdict_digest
        return record_of(fresh if ours else self.now.changed(reason=str(fenced)), "ROLLED_BACK")


def record_of(at: RolloutState, ending: Ending) -> records.Rollout:
    """`rollout.json` of a state."""
    kept = ("endpoint", "stable", "candidate", "reason", "verdict_digest", "approved_by", "epoch", "runner")
    return records.Rollout(
        **{name: getattr(at, name) for name in kept},
        state=ending,
        started_at=at.started_at,
        ended_at=at.updated_at,
        steps=at.steps,
        writes=at.writes,
    )


def run(
    settings: Settings,
    verdict: "Verdict",
    candidate: str | None,
    sample: Sequence[dict[str, Any]],
    policy: Policy,
    tell: Callable[[str], None],
    *,
    approval: Approval | None = None,
    again: bool = False,
) -> records.Rollout:
    """Move traffic to `candidate` step by step, or go on where another process stopped.

    Returns the record of a promotion or of a way back. Raises Refused before anything moves when a rule says no.
    """
    endpoint = Endpoint(settings)
    mine, in_force, found = begin(
        endpoint, BlobStore(settings), verdict, candidate, policy, approval=approval, again=again
    )
    if isinstance(mine, RolloutState):
        return record_of(mine, "PROMOTED").model_copy(update={"reason": f"nothing to do, {found}"})
    tell(f"{mine.state.candidate}: {found}")
    with Requests(endpoint.scoring_uri()) as requests:
        return Executor(endpoint, requests, sample, policy, mine, tell, in_force=in_force).run()
