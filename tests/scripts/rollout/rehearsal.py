"""A rollout rehearsed: the real decisions against an Azure made up to behave badly, with the fourteen promises checked.

Not the executor (test_survives.py crosses that one with crashes and rivals at every effect) but its contract, without
threads and storage, so that thousands of rollouts fit into a minute. A tick looks, decides, keeps the state, acts; the
process may die between any two of these, and then the next tick is another process with the last kept state.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

from scripts.rollout import decide, transitions
from scripts.rollout.approval import Approval
from scripts.rollout.effects import Effect, Probe, Sample, Scale, SetTraffic, SmokeTest, Wait
from scripts.rollout.evidence import NO_ANSWERS, Batch, Count, Graded, Sides, missing
from scripts.rollout.observation import Deployed, Observation
from scripts.rollout.policy import LOCAL, Policy, load
from scripts.rollout.state import GOING_BACK, TERMINAL, Phase, RolloutState, Weights, all_to, nonzero

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
BLUE, GREEN = "b" * 64, "g" * 64
TICKS_HOME = 12


def policy(**changes: object) -> Policy:
    """Every stage, in a few minutes each."""
    values = load(LOCAL).model_dump()
    values |= {"steps": [10, 50, 100], "evidence": "users", "bad_below": 0.3, "retention_hours": 24}
    values["bake"] |= {"minutes": 2, "post_minutes": 3, "max_minutes": 15, "held_minutes": 10, "min_requests": 8}
    values["harm"] |= {"signals": {"error": 0.7, "probe": 0.2, "safety": 0.1}}
    values["approval"] |= {"required": True, "max_age_hours": 1, "wait_hours": 2}
    values["shadow"] |= {"percent": 20, "minutes": 2}
    values["probes"] |= {"per_look": 10, "max_pairs": 60}
    values["safety"] |= {"pairs_per_look": 2, "min_answers": 4}
    return Policy.model_validate({**values, **changes})


@dataclass
class Azure:
    """What the service promises, and no more: the last write wins, reads may be old, answers may be lost."""

    weights: Weights
    mirror: Weights = field(default_factory=dict)
    deployed: dict[str, Deployed] = field(
        default_factory=lambda: {"blue": Deployed("Succeeded", BLUE, 3), "green": Deployed("Succeeded", GREEN, 1)}
    )
    before: tuple[Weights, Weights] | None = None
    stale_looks: int = 0
    refusals: int = 0  # of the next writes: 409
    late: list[tuple[int, Weights, Weights]] = field(default_factory=list)  # writes that are carried out in n looks
    delay: int = 0  # of the next write, in looks
    ready_in: int = 0  # looks until the candidate stands that is being made or scaled

    def put(self, weights: Weights, mirror: Weights) -> None:
        if self.refusals:
            self.refusals -= 1
            return
        if self.delay:
            self.late.append((self.delay, weights, mirror))
            self.delay = 0
            return
        self._take(weights, mirror)

    def _take(self, weights: Weights, mirror: Weights) -> None:
        if any(name not in self.deployed for name in weights):
            return
        self.before = (self.weights, self.mirror)
        self.weights, self.mirror = nonzero(weights), nonzero(mirror)

    def look(self) -> tuple[Weights, Weights]:
        self.late = [(looks - 1, *maps) for looks, *maps in self.late]  # type: ignore[misc]
        for looks, weights, mirror in self.late:
            if looks <= 0:
                self._take(weights, mirror)
        self.late = [each for each in self.late if each[0] > 0]
        if self.stale_looks and self.before:
            self.stale_looks -= 1
            return self.before
        return self.weights, self.mirror


class Rehearsal:
    """One rollout. `reached` counts the states that were ever kept, over all rehearsals."""

    def __init__(self, rules: Policy, *, first: bool = False, seed: int = 0) -> None:
        self.policy, self.first, self.random = rules, first, Random(seed)
        stable = "" if first else "blue"
        self.azure = Azure(all_to(stable))
        if first:
            del self.azure.deployed["blue"]
        self.now = START
        self.state = self.kept = RolloutState(
            endpoint="e",
            stable=stable,
            candidate="green",
            stable_model="" if first else BLUE,
            candidate_model=GREEN,
            verdict_digest="v" * 64,
            policy_digest=rules.digest,
            epoch=1,
            runner="r",
            phase=Phase.PROVISIONING,
            since=START,
            plan=[100] if first else rules.steps,
            standing=all_to(stable),
            reason="it passed",
            started_at=START,
            updated_at=START,
        )
        self.begun = self.state
        self.ledger: list[tuple[Observation, datetime]] = []
        self.blind = False
        self.crash_at: int | None = None
        self.traffic = 40  # users' requests a minute
        self.errors = {"green": 0.0, "blue": 0.0}
        self.unsafe, self.ungraded = 0.0, 0.0  # shares of the candidate's answers, of all answers
        self.gained: list[Observation] = []
        self.reached: Counter[Phase] = Counter()
        self.drifted = self.aborted = False

    # What happens.

    def approve(self, *, wrong: bool = False) -> None:
        given = Approval(
            verdict_digest=("x" if wrong else "v") * 64,
            candidate_model=GREEN,
            baseline_model=BLUE,
            approved_by="alice",
            approved_at=self.now,
            run_url=None,
            policy_digest=self.policy.digest,
        )
        self.state = self.kept = self.kept.model_copy(update={"approval": given})
        self.begun = self.begun.model_copy(update={"approval": given}) if not self.ledger else self.begun
        self._restart_ledger()

    def abort(self) -> None:
        if self.kept.under_way and self.kept.phase not in GOING_BACK:
            self._keep(*transitions.back(self.kept, "stop", self.now))
            self.aborted = True
            self._restart_ledger()

    def _restart_ledger(self) -> None:
        self.begun, self.ledger = self.kept, []

    def minute(self) -> None:
        """Users ask, time passes, somebody ticks."""
        self.now += MINUTE
        self.tick()

    # What a tick does.

    def tick(self) -> None:
        for _ in range(60):
            seen = self.look()
            before = self.kept
            after, effects = decide.step(before, seen, self.now, self.policy)
            self.check(before, after, effects, seen)
            if self._dies(0):
                return
            self.ledger.append((seen, self.now))
            self._keep(after, effects)
            if self._dies(1):
                return
            if not effects and not after.under_way:
                return
            for effect in effects:
                self.act(effect)
            if self._dies(2):
                self.gained = []
                return
            if any(isinstance(each, Wait) and each.seconds for each in effects):
                return
        raise AssertionError(f"a tick that never waits: {self.kept}")

    def _dies(self, place: int) -> bool:
        if self.crash_at != place:
            return False
        self.crash_at = None
        return True

    def _keep(self, after: RolloutState, _: object) -> None:
        self.kept = RolloutState.model_validate_json(after.model_dump_json())
        self.reached[after.phase] += 1

    def look(self) -> Observation:
        if self.azure.ready_in:
            self.azure.ready_in -= 1
            if not self.azure.ready_in:
                self.azure.deployed["green"] = replace(self.azure.deployed["green"], state="Succeeded")
        if self.blind:
            return Observation(None, None, None)
        weights, mirror = self.azure.look()
        seen = Observation(weights, mirror, dict(self.azure.deployed), self.batches())
        for result in self.gained:
            seen = seen.plus(result)
        self.gained = []
        return seen

    def batches(self) -> list[Batch]:
        """The minute that has passed, from the weights as they really are; looked at twice it is the same."""
        at = self.now - MINUTE
        draw = Random(f"{at}{self.traffic}")
        live = {**self.azure.weights, **self.azure.mirror}
        counts = {}
        for colour in ("green", "blue"):
            requests = round(self.traffic * live.get(colour, 0) / 100)
            counts[colour] = Count(
                requests=requests, bad=sum(draw.random() < self.errors[colour] for _ in range(requests))
            )
        if not any(count.requests for count in counts.values()):
            return []
        return [Batch(at=at, signals={"error": Sides(candidate=counts["green"], stable=counts["blue"])})]

    def act(self, effect: Effect) -> None:
        match effect:
            case SetTraffic(weights, mirror):
                self.azure.put(weights, mirror)
            case Scale(name, instances):
                self.azure.deployed[name] = replace(self.azure.deployed[name], instances=instances, state="Updating")
                self.azure.ready_in = 1
            case SmokeTest(count):
                good = [self.random.random() >= self.errors["green"] for _ in range(count)]
                self.gained.append(Observation(None, None, None, smoke=good))
            case Probe(pairs):
                drops = [float(self.random.random() < self.errors["green"]) for _ in range(pairs)]
                self.gained.append(Observation(None, None, None, drops=drops, graded=self.graded(pairs)))
            case Sample():
                raise AssertionError("this policy asks users")

    def graded(self, pairs: int) -> Graded:
        """The evaluator's work: some answers it cannot grade, and of the candidate's some are hits, a few critical."""
        known = [sum(self.random.random() >= self.ungraded for _ in range(pairs)) for _ in range(2)]
        hits = sum(self.random.random() < self.unsafe for _ in range(known[0]))
        critical = "hate, severity 6 of 7" if hits and self.random.random() < self.unsafe / 4 else ""
        found = Sides(candidate=Count(requests=known[0], bad=hits), stable=Count(requests=known[1]))
        return Graded(sides=found, ungraded=2 * pairs - sum(known), critical=critical)

    # What must hold.

    def check(self, before: RolloutState, after: RolloutState, effects: Sequence[Effect], seen: Observation) -> None:
        writes = [each for each in effects if isinstance(each, SetTraffic)]
        assert len(writes) <= 1
        for write in writes:
            self.check_write(after, write, seen)
        for scale in (each for each in effects if isinstance(each, Scale)):
            assert scale.deployment == "green", "3: the stable colour is not touched"
            assert scale.instances > (seen.deployed or {})["green"].instances, "3: nothing is shrunk"
        forward = after.step > before.step or after.phase is Phase.PROMOTED is not before.phase
        if forward:
            assert not seen.blind, "9"
            assert missing(after.evidence, self.policy) == "", "9: no evidence, no step"
            assert after.evidence.here.candidate.requests >= self.policy.bake.min_requests, "9"
            graded = after.evidence.safety.sides.candidate.requests
            assert graded >= self.policy.safety.min_answers, "9: what nobody could read is not harmless"
            assert not after.evidence.safety.critical, "9"
        if after.phase in TERMINAL and before.phase not in TERMINAL:
            final = {"green": 100} if after.phase is Phase.PROMOTED else all_to(after.stable)
            assert (seen.weights, seen.mirror) == (final, {}), "14: only what was read back has succeeded"
        assert after.step - before.step in (0, 1), "10: no step is left out"
        if (after.standing, after.mirror) != (before.standing, before.mirror):
            assert (seen.weights, seen.mirror) == (after.standing, after.mirror), "14: confirmed is what was read"
        if after.phase not in (Phase.SHADOW, *GOING_BACK):
            assert not after.mirror, "8: nothing is mirrored after the shadow"
        if not seen.blind:  # 6: what was counted once is not counted again
            told = replace(seen, smoke=(), drops=(), graded=NO_ANSWERS)
            once = decide.absorbed(before, told, self.policy)
            assert decide.absorbed(once, told, self.policy) == once

    def check_write(self, after: RolloutState, write: SetTraffic, seen: Observation) -> None:
        total, mine = sum(write.weights.values()), write.weights.get("green", 0)
        assert total == 100 or (self.first and not write.weights), "1"
        assert set(write.weights) | set(write.mirror) <= {"blue", "green"}, "1"
        assert all(type(weight) is int and weight >= 0 for weight in write.weights.values()), "1"
        assert len(write.mirror) <= 1 and max(write.mirror.values(), default=0) <= 50, "8"
        assert not nonzero(write.weights).keys() & write.mirror.keys(), "8"
        assert after.intent == write.weights, "5: said before it is done"
        if mine or write.mirror:
            there = (seen.deployed or {}).get("green")
            assert there is not None, "2"
            assert (there.state, there.model) == ("Succeeded", GREEN), "2"
            stable = (seen.deployed or {}).get("blue")
            assert self.first or (stable is not None and there.instances * 100 >= stable.instances * mine), "2"
        if mine:
            assert mine == after.plan[after.step], "10"
            assert after.phase is Phase.SET, "10"
            given = after.approval
            assert given is not None, "11"
            assert given.verdict_digest == after.verdict_digest, "11"
            assert self.now - given.approved_at <= timedelta(hours=self.policy.approval.max_age_hours), "11"
        elif after.phase in GOING_BACK:
            assert nonzero(write.weights) == all_to(after.stable), "10"
            assert write.mirror == {}, "4"

    def goes_home(self) -> None:
        """4: from any state everything goes back, in finitely many ticks, once Azure answers again."""
        self.blind, self.crash_at = False, None
        self.azure.stale_looks = self.azure.refusals = self.azure.delay = 0
        if self.kept.phase in TERMINAL:
            return
        self.abort()
        for _ in range(TICKS_HOME):
            if self.kept.phase in TERMINAL:
                break
            self.minute()
        assert self.kept.phase is Phase.ROLLED_BACK, "4"
        assert (self.azure.weights, self.azure.mirror) == (all_to(self.kept.stable), {}), "4"

    def replays(self) -> None:
        """12: the ledger alone gives the same decisions, byte for byte."""
        state = self.begun
        for seen, at in self.ledger:
            state, _ = decide.step(state, seen, at, self.policy)
            state = RolloutState.model_validate_json(state.model_dump_json())
        assert state.model_dump_json() == self.kept.model_dump_json(), "12"
