"""The rollout's decider: a pure function, so it is driven through whole rollouts against made-up error rates."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.rollout import policy as policies
from scripts.rollout.decide import (
    Observation,
    Outcome,
    Phase,
    SendRequests,
    SetCandidate,
    State,
    fisher,
    harm_shown,
    step,
)

POLICY = policies.load()


def drive(candidate_errors: float, stable_errors: float, seed: int, *, dead: bool = False) -> tuple[State, list[int]]:
    """Run one rollout to its end; returns the last state and every candidate weight that was written."""
    random, state, weights = Random(seed), State(), []
    here: list[Outcome] = []
    everything: list[Outcome] = []
    confirmed = False
    for _ in range(500):
        state, effect = step(state, Observation(confirmed, here, everything), POLICY)
        if isinstance(effect, SetCandidate):
            weights.append(effect.weight)
            confirmed, here = True, []
        elif isinstance(effect, SendRequests):
            for _ in range(effect.count):
                mine = random.random() * 100 < weights[-1] and not dead
                outcome = Outcome(mine, random.random() >= (candidate_errors if mine else stable_errors))
                here.append(outcome)
                everything.append(outcome)
        elif state.phase in (Phase.PROMOTED, Phase.ROLLED_BACK):
            return state, weights
    raise AssertionError(f"the rollout never ended: {state}")


def test_a_good_candidate_climbs_the_declared_steps() -> None:
    state, weights = drive(0, 0, seed=1)
    assert state.phase is Phase.PROMOTED
    assert weights == POLICY.steps


def test_a_failing_candidate_is_taken_back_at_the_first_step() -> None:
    state, weights = drive(1.0, 0, seed=1)
    assert state.phase is Phase.ROLLED_BACK
    assert weights == [POLICY.steps[0], 0]


def test_without_requests_to_the_candidate_nothing_advances() -> None:
    state, weights = drive(0, 0, seed=1, dead=True)
    assert state.phase is Phase.ROLLED_BACK
    assert weights == [POLICY.steps[0], 0]
    assert "no evidence" in state.reason


def test_unconfirmed_weights_while_baking_are_drift() -> None:
    state, effect = step(State(Phase.BAKE), Observation(False, [Outcome(True, True)] * 50), POLICY)
    assert (state.phase, effect) == (Phase.ROLLING_BACK, SetCandidate(0))


def test_a_third_of_errors_is_found_and_no_errors_are_not() -> None:
    assert all(drive(0.33, 0.0, seed)[0].phase is Phase.ROLLED_BACK for seed in range(40))
    assert all(drive(0.0, 0.0, seed)[0].phase is Phase.PROMOTED for seed in range(40))


@settings(max_examples=60, deadline=None)
@given(candidate=st.floats(0, 1), stable=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_weights_rise_along_the_steps_and_fall_only_to_zero(candidate: float, stable: float, seed: int) -> None:
    state, weights = drive(candidate, stable, seed)
    climbed = weights if state.phase is Phase.PROMOTED else weights[:-1]
    assert climbed == POLICY.steps[: len(climbed)]
    assert state.phase is Phase.PROMOTED or weights[-1] == 0


@given(st.lists(st.booleans(), max_size=60), st.lists(st.booleans(), max_size=60))
def test_more_errors_of_the_candidate_never_make_it_look_better(mine: list[bool], theirs: list[bool]) -> None:
    outcomes = [Outcome(True, ok) for ok in mine] + [Outcome(False, ok) for ok in theirs]
    worse = [Outcome(True, False) if each.by_candidate else each for each in outcomes]
    assert fisher(worse) <= fisher(outcomes) + 1e-12


def test_fisher_against_the_tea_tasting_table() -> None:
    """Fisher's own example, 3 of 4 against 1 of 4: one-sided p = 17/70 (The Design of Experiments, 1935)."""
    outcomes = [Outcome(True, ok) for ok in (False, False, False, True)]
    outcomes += [Outcome(False, ok) for ok in (True, True, True, False)]
    assert fisher(outcomes) == pytest.approx(17 / 70)


@pytest.mark.parametrize("phase", [Phase.PROMOTED, Phase.ROLLED_BACK])
def test_an_ended_rollout_stays_ended(phase: Phase) -> None:
    state = State(phase)
    assert step(state, Observation(True, [Outcome(True, False)] * 50), POLICY) == (state, None)


def test_five_failures_in_a_row_are_harm_before_any_statistics() -> None:
    run = [Outcome(True, False)] * POLICY.max_errors_in_a_row
    assert "in a row" in harm_shown(Observation(True, run, run), POLICY)
    assert not harm_shown(Observation(True, run[1:], run[1:]), replace_rate(POLICY))


def replace_rate(policy: policies.Policy) -> policies.Policy:
    return policy.model_copy(update={"max_error_rate": 0.99})


def test_a_rollback_goes_on_until_the_weights_read_back() -> None:
    state = State(Phase.ROLLING_BACK, reason="because")
    again, effect = step(state, Observation(False), POLICY)
    assert (again, effect) == (state, SetCandidate(0))
    assert step(state, Observation(True), POLICY) == (replace(state, phase=Phase.ROLLED_BACK), None)
