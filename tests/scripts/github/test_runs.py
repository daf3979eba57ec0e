"""Which commits are left alone because a run works on them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.errors import InvalidInput
from scripts.github.runs import active_commits, at_work

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
