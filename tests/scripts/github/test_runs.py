"""Which commits are left alone because a run works on them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.errors import InvalidInput, Refused
from scripts.github import api
from scripts.github.runs import active_commits, at_work, check_on_main

RELEASE, RETRAIN, RESUME, PR = (f".github/workflows/{name}.yml" for name in ("release", "retrain", "resume", "pr"))


def run(path: str = RELEASE, status: str = "in_progress", number: int = 1, sha: str = "a") -> dict[str, Any]:
    return {"id": number, "path": path, "status": status, "head_sha": sha}


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([], set()),
        ([run()], {"a"}),
        ([run(RETRAIN, "queued")], {"a"}),
        ([run(RELEASE + "@refs/heads/main")], {"a"}),
        ([run(status="waiting")], set()),
        ([run(status="completed")], set()),
        ([run(PR)], set()),
        ([run(RESUME)], None),
        ([run(RESUME, "waiting")], set()),
        ([run(RESUME, number=7)], set()),
        ([run(sha="a"), run(number=2, sha="b")], {"a", "b"}),
    ],
)
def test_at_work(runs: list[dict[str, Any]], expected: set[str] | None) -> None:
    assert at_work(runs, mine="7") == expected


@given(st.lists(st.builds(run, st.sampled_from([RELEASE, RETRAIN, RESUME, PR]), number=st.integers(1, 9))))
def test_a_run_never_waits_for_itself(runs: list[dict[str, Any]]) -> None:
    mine = [each for each in runs if each["id"] == 7]
    assert at_work(mine, mine="7") == set()


def test_outside_github_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    with pytest.raises(InvalidInput, match="GITHUB_REPOSITORY"):
        active_commits()


@pytest.mark.parametrize(
    ("compared", "ours"),
    [
        ({"status": "identical"}, True),
        ({"status": "behind"}, True),
        ({"status": "ahead"}, False),
        ({"status": "diverged"}, False),
        ({}, False),
        (None, False),
    ],
)
def test_only_a_commit_of_the_default_branch_is_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, compared: dict[str, str] | None, ours: bool
) -> None:
    """A fork's commit can be checked out by its SHA too, and the tag can be set by anybody who may submit a job."""
    asked: list[str] = []

    def find(path: str) -> dict[str, str] | None:
        asked.append(path)
        return compared

    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/train")
    monkeypatch.setattr(api, "call", lambda *_: {"default_branch": "trunk"})
    monkeypatch.setattr(api, "find", find)
    if ours:
        check_on_main("c" * 40)
    else:
        with pytest.raises(Refused, match="is not on trunk: nothing of it is run"):
            check_on_main("c" * 40)
    assert asked == [f"repos/acme/train/compare/trunk...{'c' * 40}"]
