"""`rollout tick` and `rollout run`: look, decide, keep, act, look again.

Around every write of weights: the state says what is meant, then the weights are written, then the next look reads them
back. So a process may die anywhere and the next one goes on, whoever it is.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from typing import Any

from scripts import records, sample_requests
from scripts.endpoint import Answer, Asks
from scripts.errors import AzureFailed
from scripts.front import Front
from scripts.rollout import back, decide, state, transitions
from scripts.rollout.effects import Effect, Page, Probe, Sample, Scale, SetTraffic, SmokeTest, Wait
from scripts.rollout.evidence import NO_ANSWERS, Graded
from scripts.rollout.look import Eyes, batch_of
from scripts.rollout.observation import Observation
from scripts.rollout.policy import Policy
from scripts.rollout.probes import Prober
from scripts.rollout.safety import Grader
from scripts.rollout.state import GOING_BACK, Phase, RolloutState
from scripts.rollout.steps import Judged, step_record
from scripts.rollout.store import Fenced, Tenure

BAKING = (Phase.BAKE, Phase.POST_BAKE, Phase.HELD)
P95_OF = 20  # requests to the stable colour, from which what is slow is told


@dataclass(frozen=True)
class Tools:
    """What effects are carried out with: `sample` bodies go where the weights lead, `held_out` ones to a colour."""

    endpoint: Front
    requests: Asks
    sample: Sequence[dict[str, Any]]
    held_out: Sequence[dict[str, Any]]
    eyes: Eyes
    prober: Prober | None = None
    grader: Grader | None = None


class Executor:
    """Runs one rollout from where its state stands. One instance per process and rollout."""

    def __init__(
        self,
        tools: Tools,
        policy: Policy,
        tenure: Tenure,
        tell: Callable[[str], None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = records.now,
    ) -> None:
        self.tools, self.policy, self.tenure, self.tell = tools, policy, tenure, tell
        self.sleep, self.clock = sleep, clock
        self.bodies, self.held_out = cycle(tools.sample), cycle(tools.held_out)
        self.here = Judged(clock())

    @property
    def now(self) -> RolloutState:
        return self.tenure.state

    def run(self) -> RolloutState:
        """Tick until it has ended or a person must do something first. Whatever goes wrong, stable gets everything.

        Raises Fenced when another process goes on with this rollout; this one then touches nothing more.
        """
        try:
            try:
                self._on()
            except Fenced:
                raise
            except (Exception, KeyboardInterrupt) as error:
                self._rescue(f"the rollout could not go on ({str(error) or type(error).__name__})")
        except Fenced as fenced:
            return self._step_aside(fenced)
        return self.now

    def _on(self) -> None:
        # Who is stuck says so at once; the watchdog goes on trying.
        while (wait := self.tick()) and not wait.person and self.now.phase is not Phase.ROLLBACK_STUCK:
            self.sleep(wait.seconds)

    def tick_or_aside(self) -> RolloutState:
        """One tick; what went wrong in it is the next one's to see. Raises Fenced as `run` does."""
        try:
            self.tick()
        except Fenced as fenced:
            return self._step_aside(fenced)
        return self.now

    def tick(self) -> Wait | None:
        """Everything that can be done now; what is waited for then, None when the rollout has ended. Raises Fenced."""
        seen = self.tools.eyes.look(self.now, self.policy, self.clock())
        while True:
            before = self.now
            after, effects = decide.step(before, seen, self.clock(), self.policy)
            self._keep(before, after, effects, seen)
            if not effects:
                if not after.under_way:
                    return None
                effects = (Wait(transitions.AT_ONCE, "the next look"),)
            gained = [result for effect in effects if (result := self._carry_out(effect))]
            wait = next((each for each in effects if isinstance(each, Wait) and each.seconds), None)
            if wait:
                for result in gained:
                    self._put(decide.absorbed(self.now, result, self.policy))
                if not (gained and decide.shown(self.now, self.policy)):
                    return wait
                gained = []
            seen = self.tools.eyes.look(self.now, self.policy, self.clock())
            for result in gained:
                seen = seen.plus(result)

    def _carry_out(self, effect: Effect) -> Observation | None:
        match effect:
            case SetTraffic(weights, mirror):
                self._write(weights, mirror)
            case Scale(deployment, instances):
                self._try(lambda: self.tools.endpoint.scale(deployment, instances))
            case SmokeTest(count):
                return self._smoke(count)
            case Sample(count):
                return self._sample(count)
            case Probe(pairs):
                return self._probe(pairs)
            case Page(text):
                self.tell(f"  ! {text}")
            case Wait(seconds, what):
                if seconds:
                    self.tell(f"  waiting for {what}")
        return None

    def _write(self, weights: state.Weights, mirror: state.Weights) -> None:
        candidate = self.now.candidate
        raising = bool(weights.get(candidate) or mirror)
        if raising:
            self.tenure.check()
        live = candidate if weights.get(candidate) == 100 else self.now.stable
        tags = state.tags(self.now, live)
        self._try(lambda: self.tools.endpoint.set_traffic(weights, tags, mirror))
        if raising:  # somebody may have taken it over while Azure wrote
            self.tenure.check()
        told = " · ".join(f"{name} {share}%" for name, share in reversed(weights.items())) or "nobody gets traffic"
        self.tell(told + (f" · mirror {mirror}" if mirror else ""))
        self.here = Judged(self.clock())

    def _try(self, act: Callable[[], object]) -> None:
        """Azure's refusals are no end: the next look shows what is in force, and the decision is made of that."""
        try:
            act()
        except AzureFailed as error:
            self.tell(f"  {error}")

    def _smoke(self, count: int) -> Observation:
        ask = self.tools.requests
        said = sample_requests.ask(ask, list(islice(self.held_out, count)), deployment=self.now.candidate)
        slow = None
        if "slow" in self.policy.harm.signals and self.now.stable:
            slow = self.policy.harm.slow_ms or self._p95()
        graded = self._graded([text for answer, text in said if answer.ok])
        return Observation(None, None, None, smoke=[answer.ok for answer, _ in said], slow_ms=slow, graded=graded)

    def _probe(self, count: int) -> Observation | None:
        if self.tools.prober is None:
            return None
        found = self.tools.prober.pairs(count, self.now.stable, self.now.candidate)
        return Observation(None, None, None, drops=found.drops, graded=self._graded(found.candidate, found.stable))

    def _graded(self, candidate: Sequence[str], stable: Sequence[str] = ()) -> Graded:
        if self.tools.grader is None:
            return NO_ANSWERS
        graded, why = self.tools.grader.graded(candidate, stable)
        if why:
            self.tell(f"  {graded.ungraded} answers count for nothing, they could not be graded: {why}")
        return graded

    def _p95(self) -> float | None:
        bodies = list(islice(self.held_out, P95_OF))
        answers = sample_requests.send(self.tools.requests, bodies, deployment=self.now.stable)
        good = sorted(answer.latency_ms for answer in answers if answer.ok)
        return good[int(0.95 * len(good))] if len(good) == P95_OF else None

    def _sample(self, count: int) -> Observation:
        started = time.monotonic()
        answers: list[Answer] = sample_requests.send(self.tools.requests, list(islice(self.bodies, count)))
        self.here.add(answers, time.monotonic() - started)
        failed = sum(not answer.ok for answer in self.here.answers)
        self.tell(f"  {len(self.here.answers)} requests at {self.now.weight}%, {failed} failed")
        batch = batch_of(answers, self.now.stable, self.clock(), self.now.slow_ms)
        return Observation(None, None, None, batches=[batch])

    def _keep(self, before: RolloutState, after: RolloutState, effects: Sequence[Effect], seen: Observation) -> None:
        """The state as it is meant, before anything is done about it."""
        changes: dict[str, Any] = {}
        writes = [records.Write(at=self.clock(), traffic=each.weights) for each in effects if type(each) is SetTraffic]
        if writes:
            changes["writes"] = [*after.writes, *writes]
        if before.phase in BAKING and after.phase not in BAKING:
            forward = after.phase not in GOING_BACK
            self.tell(f"  {'→ ' if forward else '← rolling back: '}{after.reason}")
            changes["steps"] = [*after.steps, step_record(before, after, self.here, seen.weights or {}, self.clock())]
        elif after.phase in GOING_BACK and before.phase not in GOING_BACK:
            self.tell(f"  ← rolling back: {after.reason}")
        self._put(after.model_copy(update=changes))

    def _put(self, wanted: RolloutState) -> None:
        """Going back never waits for storage: it may be what failed."""
        try:
            self.tenure.replace(wanted)
        except AzureFailed as error:
            if wanted.phase not in GOING_BACK:
                raise
            self.tell(f"  the state could not be kept: {error}")
            self.tenure.state = wanted

    def _rescue(self, reason: str) -> None:
        """Go back now; a state that stays on its way back is what the watchdog goes on with."""
        if self.now.phase not in GOING_BACK:
            after, effects = transitions.back(self.now, reason, self.clock())
            self._keep(self.now, after, effects, Observation(None, None, None))
            for effect in effects:
                self._carry_out(effect)
        self._on()

    def _step_aside(self, fenced: Fenced) -> RolloutState:
        """Fenced off: undo a raise of ours that may have crossed somebody's way back, else touch nothing."""
        fresh = self.tenure.newest()
        if fresh is None or fresh.phase not in GOING_BACK:
            raise fenced
        self.tell(f"  ← {fenced}")
        tags = state.tags(fresh, fresh.stable)
        back.give_all(self.tools.endpoint, fresh.stable, tags, self.tell)
        ours = fresh.verdict_digest == self.now.verdict_digest
        told = fresh if ours else self.now.model_copy(update={"reason": str(fenced)})
        return told.model_copy(update={"phase": Phase.ROLLED_BACK})  # read back just now
