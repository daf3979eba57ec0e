"""Which release the schedule goes on with: the newest that ended unseen, and never one twice."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.pending import MAX_AGE, Job, choose

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TAGS = {"commit": "c" * 40, "recipe": "a100_lora", "period": "2026-Q4"}


def job(name: str = "train-1", status: str = "Completed", hours: float = 1, verdict: str = "", **tags: str) -> Job:
    return Job(name, status, {**TAGS, **tags}, NOW - timedelta(hours=hours), verdict)


def test_a_job_that_ended_unseen_is_gone_on_with() -> None:
    found = choose([job()], NOW).release
    assert found
    assert (found.job_name, found.commit, found.recipe, found.period) == ("train-1", "c" * 40, "a100_lora", "2026-Q4")


def test_a_failed_job_is_gone_on_with_so_that_somebody_is_told_and_only_once() -> None:
    assert choose([job(status="Failed")], NOW).release
    assert choose([job(status="Failed", reported="true")], NOW).release is None


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (job(verdict="fail"), "judged: fail"),
        (job(reported="true"), "failure was reported"),
        (job(status="Running"), "no training job"),
        (job(commit=""), "no training job"),
        (job(commit="main"), "no training job"),
        (job(hours=MAX_AGE / timedelta(hours=1) + 1), "no training job"),
        (Job("train-1", "Completed", TAGS, None), "no training job"),
    ],
)
def test_finished_business_is_left_alone_and_says_why(one: Job, why: str) -> None:
    done = choose([one], NOW)
    assert done.release is None
    assert why in done.reason


def test_a_run_that_is_working_on_it_is_not_disturbed() -> None:
    assert choose([job()], NOW, active={"c" * 40}).release is None
    assert choose([job()], NOW, active={"d" * 40}).release


def test_a_newer_release_supersedes_an_older_one() -> None:
    older, newer = job("old", hours=5, commit="a" * 40), job("new", hours=1, commit="b" * 40)
    chosen = choose([older, newer], NOW).release
    assert chosen and chosen.job_name == "new"
    assert choose([older, job("new", hours=1, verdict="pass")], NOW).release is None


JOBS = st.lists(
    st.builds(
        job,
        name=st.sampled_from(["a", "b", "c", "d"]),
        status=st.sampled_from(["Completed", "Failed", "Canceled", "Running", "Queued"]),
        hours=st.floats(0, 1000),
        verdict=st.sampled_from(["", "pass", "fail"]),
        commit=st.sampled_from(["", "a" * 40, "b" * 40]),
    ),
    unique_by=lambda each: each.name,
)


@given(JOBS, st.sets(st.sampled_from(["a" * 40, "b" * 40])))
def test_what_is_chosen_needs_somebody(jobs: list[Job], active: set[str]) -> None:
    done = choose(jobs, NOW, active)
    assert choose(list(reversed(jobs)), NOW, active) == done
    if done.release:
        assert any(
            each.name == done.release.job_name and not each.verdict and each.status not in ("Running", "Queued")
            for each in jobs
        )
        assert done.release.commit not in active
