"""Any history of a rollout keeps its promises: they are in rehearsal.py, numbered as in docs/rollout.md."""

import os
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from scripts.rollout.state import GOING_BACK, TERMINAL, Phase, nonzero
from tests.scripts.rollout.rehearsal import Rehearsal, policy

POLICY, UNSHADOWED = policy(), policy(shadow={"percent": 0, "minutes": 0})
RUNS = int(os.environ.get("ROLLOUT_RUNS", "2000"))
REACHED: Counter[Phase] = Counter()
ENDS: Counter[str] = Counter()
MAPS = [{"blue": 100}, {"green": 100}, {"blue": 70, "green": 30}, {}]


class Histories(RuleBasedStateMachine):
    @initialize(
        first=st.integers(0, 9),
        calm=st.integers(0, 16),
        comes_up=st.booleans(),
        approved=st.integers(0, 4),
        silent=st.sampled_from([True, False, False]),
        shadow=st.booleans(),
    )
    def begin(self, first: int, calm: int, comes_up: bool, approved: int, silent: bool, shadow: bool) -> None:
        """Some minutes in which all is well, so that what follows meets every stage."""
        self.r = Rehearsal(POLICY if shadow else UNSHADOWED, first=first == 0)
        if approved:
            self.r.approve()
        if comes_up:
            self.r.azure.deployed["green"] = replace(self.r.azure.deployed["green"], state="Creating")
            self.r.azure.ready_in = 2
        self.r.traffic = 200
        for _ in range(calm):
            self.r.minute()
        if silent:
            self.minutes(20, 0)

    @rule(minutes=st.sampled_from([1, 2, 3, 5, 8, 20]), traffic=st.sampled_from([40, 200, 200, 1, 0]))
    def minutes(self, minutes: int, traffic: int) -> None:
        self.r.traffic = traffic
        for _ in range(minutes):
            self.r.minute()

    @rule(errors=st.sampled_from([0.0, 0.0, 0.02, 0.3, 1.0]), stable=st.sampled_from([0.0, 0.02, 0.3]))
    def errors(self, errors: float, stable: float) -> None:
        self.r.errors = {"green": errors, "blue": stable}

    @rule(unsafe=st.sampled_from([0.0, 0.0, 0.3]), ungraded=st.sampled_from([0.0, 0.0, 0.5, 1.0]))
    def says(self, unsafe: float, ungraded: float) -> None:
        self.r.unsafe, self.r.ungraded = unsafe, ungraded

    @rule(wrong=st.sampled_from([False, False, True]))
    def approve(self, wrong: bool) -> None:
        self.r.approve(wrong=wrong)

    @rule(place=st.integers(0, 2))
    def crash(self, place: int) -> None:
        self.r.crash_at = place
        self.r.minute()
        self.r.tick()

    @rule(refusals=st.sampled_from([1, 2, 20]))
    def conflict(self, refusals: int) -> None:
        self.r.azure.refusals = refusals

    @rule(delay=st.integers(1, 4))
    def slow(self, delay: int) -> None:
        self.r.azure.delay = delay

    @rule(looks=st.integers(1, 4))
    def stale(self, looks: int) -> None:
        self.r.azure.stale_looks = looks

    @rule(minutes=st.sampled_from([1, 4, 9]))
    def blind(self, minutes: int) -> None:
        self.r.blind = True
        for _ in range(minutes):
            self.r.minute()
        self.r.blind = False

    @rule(hours=st.sampled_from([0.5, 1.5]))
    def nobody_ticks(self, hours: float) -> None:
        self.r.now += timedelta(hours=hours)

    @precondition(lambda self: not self.r.drifted)
    @rule(weights=st.sampled_from(MAPS))
    def drift(self, weights: dict[str, int]) -> None:
        self.r.drifted = True
        before, sharp = self.r.kept, not (self.r.azure.stale_looks or self.r.azure.late or self.r.azure.delay)
        self.r.azure.weights = dict(weights)
        self.r.minute()
        known = (before.standing, before.previous, nonzero(before.intent or {}))
        if sharp and weights not in known and before.phase not in TERMINAL:
            assert self.r.kept.phase in GOING_BACK, "5: what nobody wrote takes everything back"

    @rule(state=st.sampled_from(["Failed", "Updating", "Creating"]), model=st.sampled_from(["g", "g", "x"]))
    def sick(self, state: str, model: str) -> None:
        green = self.r.azure.deployed["green"]
        self.r.azure.deployed["green"] = replace(green, state=state, model=model * 64)
        self.r.minute()
        self.r.azure.deployed["green"] = replace(green, state="Succeeded")

    @rule(instances=st.integers(1, 6))
    def stable_grows(self, instances: int) -> None:
        if "blue" in self.r.azure.deployed:
            self.r.azure.deployed["blue"] = replace(self.r.azure.deployed["blue"], instances=instances)

    @rule()
    def abort_while_azure_refuses(self) -> None:
        self.r.azure.refusals = 20
        self.r.abort()
        for _ in range(8):
            self.r.minute()

    @rule()
    def abort(self) -> None:
        self.r.abort()

    def teardown(self) -> None:
        if hasattr(self, "r"):
            self.r.replays()
            self.r.goes_home()
            REACHED.update(set(self.r.reached))
            ENDS[self.r.kept.phase] += 1


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=RUNS,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)


def test_every_state_was_reached_often() -> None:
    """Else the histories above show nothing. (Runs after them: they are in the same file.)"""
    if not ENDS:
        pytest.skip("the histories did not run")
    assert {phase: REACHED[phase] for phase in Phase if REACHED[phase] < min(100, RUNS // 20)} == {}
