"""When to train again, over all facts: more of a reason never makes a yes a no; what is missing is no reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scripts.operate.drift import ANSWERS, PROMPTS, Signal
from scripts.operate.facts import Drift, Facts, Fresh, Job, Live, period_of
from scripts.operate.policy import RETRAIN, Retrain, load
from scripts.operate.reasons import age, new_data
from scripts.operate.retrain import decide
from scripts.training_job import ENDED_BADLY

SHIPPED = load(Retrain, RETRAIN)
NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
DIGESTS = ["a" * 64, "b" * 64]
times = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
maybe = st.none()
lives = st.builds(
    Live,
    model=st.just("tickets:1"),
    data_digest=st.sampled_from(["", *DIGESTS]),
    rows=maybe | st.integers(-5, 5000),
    created_at=maybe | times,
    job=st.sampled_from(["", "train-1"]),
)
jobs = st.builds(
    Job,
    name=st.sampled_from(["train-1", "train-2", "train-3"]),
    status=st.sampled_from(["Completed", "Running", "Queued", *ENDED_BADLY]),
    data_digest=st.sampled_from(DIGESTS),
    period=st.sampled_from(["", "2026-Q4", "2026-11"]),
    created_at=maybe | times,
    verdict=st.sampled_from(["", "pass", "fail"]),
    base=st.sampled_from(["", "phi 1", "phi 2"]),
)
signals = st.builds(
    Signal,
    name=st.just("topics"),
    about=st.sampled_from([PROMPTS, ANSWERS]),
    p_value=st.just(0.001),
    effect=st.just(0.1),
    least=st.just(0.002),
    drifted=st.booleans(),
)
drifts = st.builds(
    Drift,
    period=st.just("2026-W46"),
    signals=st.lists(signals, max_size=3).map(tuple),
    why_none=st.sampled_from(["", "too few rows"]),
)
shares = st.floats(0, 1)
fresh_scores = st.builds(
    Fresh,
    metric=st.just("exact_match"),
    rows=st.integers(0, 300),
    then=shares,
    then_low=shares,
    now=shares,
    now_high=shares,
    why_none=st.sampled_from(["", "stale"]),
)
facts_of = st.builds(
    Facts,
    live=lives,
    data_digest=st.sampled_from(DIGESTS),
    rows=st.integers(0, 5000),
    jobs=st.lists(jobs, max_size=4).map(tuple),
    base=st.sampled_from(["", "phi 1", "phi 2"]),
    drift=maybe | drifts,
    fresh=maybe | fresh_scores,
)
policies = st.builds(
    Retrain,
    min_new_rows=st.integers(1, 1000),
    min_new_share=st.floats(0.01, 3),
    changed_data_of_unknown_size=st.booleans(),
    max_age_days=st.floats(0.1, 1000),
    age_period=st.sampled_from(["month", "quarter"]),
    base_model=st.booleans(),
    min_fresh_rows=st.integers(30, 200),
    min_score_drop=st.floats(0.001, 0.5),
    drift=st.just(SHIPPED.drift),
    judge=st.none(),
)


@given(facts_of, policies, times, st.integers(0, 5000))
def test_more_rows_never_take_a_reason_away(facts: Facts, policy: Retrain, now: datetime, more: int) -> None:
    if decide(facts, policy, now).retrain:
        assert decide(replace(facts, rows=facts.rows + more), policy, now).retrain


@given(facts_of, policies, times, st.timedeltas(timedelta(0), timedelta(days=3000)))
def test_an_older_model_is_never_less_of_a_reason(
    facts: Facts, policy: Retrain, now: datetime, more: timedelta
) -> None:
    assert facts.live
    assume(facts.live.created_at)
    older = replace(facts, live=replace(facts.live, created_at=facts.live.created_at - more))
    if decide(facts, policy, now).retrain:
        assert decide(older, policy, now).retrain


@given(facts_of, policies, times)
def test_without_a_live_model_the_answer_is_no(facts: Facts, policy: Retrain, now: datetime) -> None:
    assert not decide(replace(facts, live=None), policy, now).retrain
    assert not decide(replace(facts, live=Live("tickets:1")), policy, now).retrain
    assert not decide(replace(facts, data_digest=""), policy, now).retrain


@given(facts_of, policies, times, st.timedeltas(timedelta(seconds=1), timedelta(days=9000)))
def test_a_clock_that_goes_backwards_trains_nothing(
    facts: Facts, policy: Retrain, now: datetime, back: timedelta
) -> None:
    assert facts.live
    unaged = replace(facts, live=replace(facts.live, created_at=now + back))
    assert not age(unaged, policy, now).holds
    if facts.live.created_at and not age(facts, policy, now).holds:
        assert not age(facts, policy, now - back).holds


@given(facts_of, policies, times, st.sampled_from(["Running", "Queued", "Completed"]))
def test_what_was_asked_for_once_is_not_asked_for_again(
    facts: Facts, policy: Retrain, now: datetime, status: str
) -> None:
    """The job that a yes leads to makes the next answer a no, for every reason, as long as it does not fail."""
    first = decide(facts, policy, now)
    job = Job("train-new", status, facts.data_digest, first.period, now, base=facts.base)
    again = decide(replace(facts, jobs=(*facts.jobs, job)), policy, now)
    assert not again.retrain
    failed = replace(facts, jobs=(*facts.jobs, replace(job, status="Failed")))
    assert decide(failed, policy, now).retrain == first.retrain


@given(facts_of, policies, times)
def test_the_answer_is_one_sentence_that_fits_the_outputs(facts: Facts, policy: Retrain, now: datetime) -> None:
    decision = decide(facts, policy, now)
    assert decision.said.endswith(".")
    assert "\n" not in decision.said
    assert decision.said.startswith("Retrain: " if decision.retrain else "No retraining: ")
    assert (decision.reason != "") == decision.retrain
    assert decision.retrain or not decision.period
    assert all(reason.said in decision.said for reason in decision.reasons if reason.name == decision.reason)


def known(**changes: object) -> Facts:
    """A live model of last month on 1,000 rows, and the same data now."""
    live = Live("tickets:1", DIGESTS[0], 1000, NOW - timedelta(days=30), "train-1")
    return replace(Facts(live, DIGESTS[0], 1000), **changes)


@pytest.mark.parametrize(
    ("rows", "yes"), [(1000, False), (1099, False), (1100, True), (900, False), (5000, True), (0, False)]
)
def test_how_many_rows_must_be_new(rows: int, yes: bool) -> None:
    changed = known(data_digest=DIGESTS[1], rows=rows)
    assert decide(changed, SHIPPED.model_copy(update={"min_new_share": 9.0}), NOW).retrain is yes
    assert decide(changed, SHIPPED.model_copy(update={"min_new_rows": 9000}), NOW).retrain is yes  # a tenth
    assert not decide(known(rows=rows), SHIPPED, NOW).retrain  # the digest is the same


@pytest.mark.parametrize("rows", [None, 0, -1])
@pytest.mark.parametrize("allowed", [True, False])
def test_changed_data_of_unknown_size(rows: int | None, allowed: bool) -> None:
    facts = known(data_digest=DIGESTS[1])
    assert facts.live
    policy = SHIPPED.model_copy(update={"changed_data_of_unknown_size": allowed})
    decision = decide(replace(facts, live=replace(facts.live, rows=rows)), policy, NOW)
    assert decision.retrain is allowed
    assert "by how much is unknown" in decision.reasons[0].said
    assert allowed or "nothing is known of data" in decision.said


def test_age_asks_once_a_period_and_again_in_the_next() -> None:
    old = known(live=Live("tickets:1", DIGESTS[0], 1000, NOW - timedelta(days=91), "train-1"))
    first = decide(old, SHIPPED, NOW)
    assert (first.retrain, first.reason, first.period) == (True, "age", "2026-Q4")
    # The live model's own job is not another try, even in the same period.
    assert decide(replace(old, jobs=(Job("train-1", "Completed", DIGESTS[0], "", NOW),)), SHIPPED, NOW).retrain
    tried = replace(old, jobs=(Job("train-2", "Completed", DIGESTS[0], "2026-Q4", NOW, "fail"),))
    refused = decide(tried, SHIPPED, NOW + timedelta(days=7))
    assert not refused.retrain
    assert "already tried as train-2 (Completed, verdict fail)" in refused.said
    assert decide(tried, SHIPPED, NOW + timedelta(days=60)).period == "2027-Q1"


def test_a_release_of_new_data_under_way_also_answers_age() -> None:
    """Or the morning after, the age would pay for a second job on the same data while the first waits for approval."""
    both = known(live=Live("tickets:1", DIGESTS[0], 1000, NOW - timedelta(days=91)), data_digest=DIGESTS[1], rows=2000)
    assert decide(both, SHIPPED, NOW).reason == "data"
    under_way = replace(both, jobs=(Job("train-2", "Running", DIGESTS[1], "", NOW),))
    assert not decide(under_way, SHIPPED, NOW + timedelta(days=1)).retrain


def test_a_job_on_other_data_is_no_try() -> None:
    other = (Job("train-2", "Completed", DIGESTS[0], "", NOW),)
    assert decide(known(data_digest=DIGESTS[1], rows=2000, jobs=other), SHIPPED, NOW).retrain


def test_a_model_from_the_future_says_that_a_clock_is_wrong() -> None:
    assert "clock" in age(known(), SHIPPED, NOW - timedelta(days=31)).said


def test_the_latest_try_is_named() -> None:
    tries = (Job("train-2", "Completed", DIGESTS[1], "", NOW), Job("train-3", "Running", DIGESTS[1]))
    facts = known(data_digest=DIGESTS[1], rows=2000, jobs=tries)
    assert new_data(facts, SHIPPED).tried == "train-2 (Completed, not judged yet)"


@pytest.mark.parametrize(
    ("when", "month", "quarter"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01", "2026-Q1"),
        (datetime(2026, 3, 31, 23, 59, tzinfo=UTC), "2026-03", "2026-Q1"),
        (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), "2026-12", "2026-Q4"),
        (datetime(2026, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))), "2027-01", "2027-Q1"),
    ],
)
def test_periods_are_of_the_calendar_in_utc(when: datetime, month: str, quarter: str) -> None:
    assert (period_of(when, "month"), period_of(when, "quarter")) == (month, quarter)


WEEK = "2026-W46"
GONE = Signal(name="topics", about=PROMPTS, p_value=0.0005, effect=0.1, least=0.002, drifted=True)
STAYED = GONE.model_copy(update={"drifted": False})
DRIFTED = Drift(WEEK, (GONE, STAYED.model_copy(update={"about": ANSWERS})))
FEW_NEW = {"data_digest": DIGESTS[1], "rows": 1010}


def test_drift_is_a_reason_only_with_data_that_the_live_model_does_not_know() -> None:
    same = decide(known(drift=DRIFTED), SHIPPED, NOW)
    assert not same.retrain
    assert "drifted" in same.said and "label newer rows first" in same.said
    other = known(**FEW_NEW, drift=DRIFTED)
    assert (decide(other, SHIPPED, NOW).reason, decide(other, SHIPPED, NOW).period) == ("prompts", "")
    assert not decide(replace(other, drift=Drift(WEEK, (STAYED,))), SHIPPED, NOW).retrain
    # A refused model of the same data is not trained again because the drift goes on.
    tried = replace(other, jobs=(Job("train-2", "Completed", DIGESTS[1], "", NOW, "fail"),))
    assert "already tried as train-2" in decide(tried, SHIPPED, NOW + timedelta(days=7)).said


@pytest.mark.parametrize("drift", [None, Drift(WEEK, (GONE,), "too few rows"), Drift(WEEK)])
def test_no_evidence_of_drift_is_said_and_is_no_reason(drift: Drift | None) -> None:
    decision = decide(known(**FEW_NEW, drift=drift), SHIPPED, NOW)
    assert not decision.retrain
    assert decision.said.endswith("nothing is known of base model, score, prompts, answers.")
    said = {reason.name: reason.said for reason in decision.reasons}
    assert all(f"no evidence about the {name}" in said[name] for name in ("prompts", "answers"))


def test_another_base_revision_is_a_reason_once() -> None:
    mine = Job("train-1", "Completed", DIGESTS[0], base="phi 1")
    assert not decide(known(base="phi 1", jobs=(mine,)), SHIPPED, NOW).retrain
    moved = known(base="phi 2", jobs=(mine,))
    assert decide(moved, SHIPPED, NOW).reason == "base model"
    assert not decide(moved, SHIPPED.model_copy(update={"base_model": False}), NOW).retrain
    tried = replace(moved, jobs=(mine, Job("train-2", "Running", DIGESTS[0], base="phi 2")))
    assert not decide(tried, SHIPPED, NOW).retrain
    assert not decide(replace(moved, jobs=(replace(mine, base=""),)), SHIPPED, NOW).retrain, "unknown is no reason"


@pytest.mark.parametrize(
    ("changes", "yes"),
    [
        ({}, True),
        ({"now_high": 0.89}, False),  # chance could explain it
        ({"now": 0.94, "now_high": 0.87}, False),  # too small to matter
        ({"rows": 99}, False),
        ({"why_none": "stale"}, False),
    ],
)
def test_a_score_must_have_fallen_for_sure_and_by_enough(changes: dict[str, object], yes: bool) -> None:
    fallen = replace(Fresh("exact_match", 100, then=0.95, then_low=0.88, now=0.8, now_high=0.87), **changes)
    assert decide(known(**FEW_NEW, fresh=fallen), SHIPPED, NOW).retrain is yes
