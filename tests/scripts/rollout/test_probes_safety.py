"""What colours say decides too: hits are compared, and one answer that must never be given takes the candidate back."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.endpoint import Requests
from scripts.rollout import decide, run
from scripts.rollout import policy as policies
from scripts.rollout.begin import Wanted, begin
from scripts.rollout.effects import Probe, Wait
from scripts.rollout.evidence import Count, Evidence, Graded, Sides, harmful, missing
from scripts.rollout.executor import Executor, Tools
from scripts.rollout.look import Eyes
from scripts.rollout.monitor import Minute
from scripts.rollout.observation import Deployed, Observation
from scripts.rollout.policy import Policy
from scripts.rollout.probes import Probed, Prober
from scripts.rollout.safety import Grader
from scripts.rollout.stages import more
from scripts.rollout.state import GOING_BACK, TERMINAL, Phase, RolloutState
from scripts.rollout.store import Tenure
from tests.scripts.rollout.test_probes_graded import SECRET, by_number
from tests.scripts.rollout.test_resume import at
from tests.scripts.rollout.world import HELLO, POLICY, World, judged

USERS = policies.load()
OFF = USERS.safety.model_copy(update={"pairs_per_look": 0})
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
FORWARD = [phase for phase in Phase if phase not in (*TERMINAL, *GOING_BACK)]


def graded(bad: int, requests: int = 5, stable_bad: int = 0, **changes: object) -> Graded:
    found = Sides(candidate=Count(requests=requests, bad=bad), stable=Count(requests=requests, bad=stable_bad))
    return Graded.model_validate({"sides": found, **changes})


def test_hits_that_the_stable_does_not_have_are_harm() -> None:
    known, looks = Evidence(), 0
    while not (why := harmful(known, None, USERS)):
        known, looks = known.with_graded(graded(2), USERS), looks + 1
        assert looks <= 12
    assert f"{2 * looks} of {5 * looks} against 0 of {5 * looks} of the answers" in why
    assert known.whole == Sides()  # no user's request: Azure counts these by itself


def test_hits_that_both_have_are_the_prompts_fault() -> None:
    known = Evidence()
    for _ in range(60):
        known = known.with_graded(graded(2, stable_bad=2), USERS)
    assert not harmful(known, None, USERS)


def test_a_signal_that_the_policy_does_not_name_is_not_compared() -> None:
    signals = USERS.harm.model_copy(update={"signals": {"error": 1.0}})
    without = USERS.model_copy(update={"harm": signals})
    known = Evidence().with_graded(graded(5, 100), without).with_graded(graded(100, 100), without)
    assert known.harm == {}
    assert not harmful(known, None, without)
    assert harmful(known.with_graded(graded(0, critical="hate, severity 7 of 7"), without), None, without)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10)), max_size=12))
def test_there_is_no_step_without_answers_that_were_graded(looks: list[tuple[int, int]]) -> None:
    known = Evidence(here=Sides(candidate=Count(requests=1000)), whole=Sides(candidate=Count(requests=1000)))
    for answers, ungraded in looks:
        known = known.with_graded(graded(0, answers, ungraded=ungraded), USERS)
    read = sum(answers for answers, _ in looks)
    assert ("content safety" in missing(known, USERS)) == (read < USERS.safety.min_answers)
    off = USERS.model_copy(update={"safety": OFF})
    assert missing(known, off) == ""


def seen(state: RolloutState, **gained: object) -> Observation:
    deployed = {name: Deployed("Succeeded", "", 9) for name in ("blue", "green")}
    found = Observation(state.standing, state.mirror, deployed)
    return found.plus(Observation(None, None, None, **gained))  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", FORWARD)
def test_an_answer_that_must_never_be_given_leads_back_from_everywhere(phase: Phase) -> None:
    state = at(phase)
    after, _ = decide.step(state, seen(state, graded=graded(1, critical="hate, severity 7 of 7")), NOW, USERS)
    assert after.phase is Phase.ROLLING_BACK
    assert "hate, severity 7 of 7" in after.reason
    kept = RolloutState.model_validate_json(
        decide.absorbed(state, seen(state, graded=graded(1, critical="x")), USERS).model_dump_json()
    )
    assert decide.shown(kept, USERS)  # whoever comes next knows it too
    assert decide.step(kept, seen(kept), NOW, USERS)[0].phase is Phase.ROLLING_BACK
    assert not decide.shown(after, USERS)
    dark = Observation(None, None, None).plus(Observation(None, None, None, graded=graded(1, critical="x")))
    assert decide.step(state, dark, NOW, USERS)[0].phase is Phase.ROLLING_BACK  # it was heard, if nothing is seen


BUSY = Evidence(here=Sides(candidate=Count(requests=999)), whole=Sides(candidate=Count(requests=999)))


@pytest.mark.parametrize(
    ("evidence", "changes", "pairs"),
    [
        (Evidence(), {}, 5),  # it has just begun
        (BUSY, {}, 5),  # users send enough: a few all the same
        (Evidence(), {"since": NOW - timedelta(minutes=10)}, 20),  # they do not
        (BUSY, {"since": NOW - timedelta(minutes=10)}, 5),
        (BUSY.model_copy(update={"pairs": 398}), {}, 2),
        (BUSY.model_copy(update={"pairs": 400}), {}, 0),
        (BUSY, {"stable": "", "standing": {"green": 100}}, 5),
        (BUSY.with_graded(graded(0, 400), USERS), {"stable": "", "standing": {"green": 100}}, 0),
    ],
)
def test_some_answers_are_read_at_each_look_whatever_users_send(
    evidence: Evidence, changes: dict[str, object], pairs: int
) -> None:
    state = at(Phase.BAKE, evidence=evidence, **changes)
    for policy in (USERS, USERS.model_copy(update={"safety": OFF})):
        asked = [each.pairs for each in more(state, NOW, policy) if isinstance(each, Probe)]
        wanted = pairs if policy is USERS or pairs == 20 else 0
        assert asked == [wanted] * bool(wanted)
        assert any(isinstance(each, Wait) for each in more(state, NOW, policy))


class Quiet:
    """A monitor that has seen nobody."""

    def minutes(self, deployments: Sequence[str], *_: object, **__: object) -> dict[str, list[Minute]]:
        return {name: [] for name in deployments}


class Unsafe:
    """A prober whose candidate says one text, and whose stable is harmless."""

    def __init__(self, text: str) -> None:
        self.text = text

    def pairs(self, count: int, stable: str, candidate: str) -> Probed:
        assert (stable, candidate) == ("blue", "green")
        return Probed([0.0] * count, [self.text] * count, ["hate 0"] * count)


def rolled(policy: Policy, text: str, smoke: str = "hate 0") -> tuple[RolloutState, World, list[str]]:
    """A whole rollout in which the candidate says `text` to probes and `smoke` to smoke requests."""
    world, told = World(), cast(list[str], [])
    actor = world.actor()
    mine, _ = begin(actor.endpoint, actor.store, Wanted(judged(), policy, "green"), lambda *_: None)
    assert isinstance(mine, Tenure)
    actor.ask = lambda body, deployment=None: (actor.post(body, deployment), smoke)  # type: ignore[method-assign]
    eyes = Eyes(actor.endpoint, Quiet() if policy.evidence == "users" else None)
    reader = Grader(by_number, policy.safety)
    tools = Tools(actor.endpoint, cast(Requests, actor), HELLO, HELLO, eyes, cast(Prober, Unsafe(text)), reader)
    ended = Executor(tools, policy, mine, told.append, sleep=world.sleep, clock=world.now).run()
    assert run.record_of(ended).state == ended.phase.value
    return ended, world, told


def without_approval(policy: Policy, **changes: object) -> Policy:
    approval = policy.approval.model_copy(update={"required": False})
    return policy.model_copy(update={"approval": approval, "safety": USERS.safety, **changes})


@pytest.mark.parametrize("policy", [without_approval(USERS), without_approval(POLICY)], ids=["users", "sample"])
def test_a_candidate_that_says_the_worst_is_back_at_the_same_look(policy: Policy) -> None:
    ended, world, told = rolled(policy, f"self_harm 7 {SECRET}")
    assert (ended.phase, world.weights) == (Phase.ROLLED_BACK, {"blue": 100})
    assert "self harm, severity 7 of 7" in ended.reason
    assert [write["green"] for write in world.written] == [10, 0]
    assert world.slept < timedelta(seconds=60)  # not at the next look
    assert SECRET not in ended.model_dump_json() + "".join(told) + str(world.tags)


def test_the_worst_to_a_smoke_request_is_back_before_anybody_saw_it() -> None:
    ended, world, _ = rolled(without_approval(POLICY), "hate 0", smoke="violence 6")
    assert ended.phase is Phase.ROLLED_BACK
    assert "violence, severity 6 of 7" in ended.reason
    assert world.written == []


def test_a_harmless_candidate_is_promoted_and_one_that_nobody_could_grade_is_not() -> None:
    ended, world, _ = rolled(without_approval(POLICY), "hate 1")
    assert (ended.phase, world.weights) == (Phase.PROMOTED, {"green": 100})
    assert ended.evidence.safety.sides.candidate.requests >= USERS.safety.min_answers
    few = POLICY.sample.model_copy(update={"max_per_step": 96})
    ended, world, told = rolled(without_approval(POLICY, sample=few), "? nobody knows", smoke="? nobody knows")
    assert (ended.phase, world.weights) == (Phase.ROLLED_BACK, {"blue": 100})
    assert "0 of 20 answers of the candidate graded" in ended.reason
    assert any("could not be graded" in line for line in told)
