"""An approval is of one verdict, by somebody, for a day."""

import getpass
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import records
from scripts.errors import InvalidInput, Refused, ScriptError
from scripts.rollout.approval import Approval, approve, approvers, check_approval
from tests.scripts.rollout.world import POLICY, World, judged, run

REVIEW = {"state": "approved", "user": {"login": "alice"}, "environments": [{"name": "production-approval"}]}


@pytest.fixture(autouse=True)
def _on_a_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)


def in_github(monkeypatch: pytest.MonkeyPatch, folder: Path, answer: str, code: int = 0) -> None:
    """A workflow run whose `gh` gives this answer."""
    gh = folder / "gh"
    (folder / "answer").write_text(answer)
    gh.write_text(f'#!/bin/sh\necho "$*" >"{folder}/asked"\ncat "{folder}/answer"\necho "HTTP 403" >&2\nexit {code}\n')
    gh.chmod(0o755)
    for name, value in {
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": "acme/train",
        "GITHUB_RUN_ID": "42",
        "GITHUB_SERVER_URL": "https://github.com",
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }.items():
        monkeypatch.setenv(name, value)


def test_on_a_desk_it_is_whoever_is_signed_in_or_named() -> None:
    done = approve(judged(), None, POLICY)
    assert (done.approved_by, done.run_url, done.verdict_digest) == (getpass.getuser(), None, "v" * 64)
    assert (done.candidate_model, done.baseline_model) == ("g" * 64, "b" * 64)
    assert approve(judged(), "  bob\n", POLICY).approved_by == "bob"


def test_in_a_workflow_it_is_the_reviewers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rejected = {"state": "rejected", "user": {"login": "eve"}}
    bob = {"state": "approved", "user": {"login": "bob"}}
    in_github(monkeypatch, tmp_path, json.dumps([REVIEW, rejected, bob, REVIEW]))
    done = approve(judged(), None, POLICY)
    assert (done.approved_by, done.run_url) == ("alice, bob", "https://github.com/acme/train/actions/runs/42")
    assert (tmp_path / "asked").read_text().strip() == "api repos/acme/train/actions/runs/42/approvals"


@pytest.mark.parametrize(
    ("answer", "code", "error"),
    [
        ("[]", 0, Refused),
        (json.dumps([{"state": "rejected", "user": {"login": "eve"}}]), 0, Refused),
        ('{"message": "Not Found"}', 0, Refused),
        ("not json", 0, ScriptError),
        ("[]", 1, ScriptError),
    ],
)
def test_nobody_is_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, code: int, error: type[Exception]
) -> None:
    in_github(monkeypatch, tmp_path, answer, code)
    with pytest.raises(error) as caught:
        approve(judged(), None, POLICY)
    assert "\n" not in str(caught.value)


def test_a_run_without_its_number_is_an_input_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_github(monkeypatch, tmp_path, "[]")
    monkeypatch.delenv("GITHUB_RUN_ID")
    with pytest.raises(InvalidInput, match="GITHUB_RUN_ID"):
        approve(judged(), None, POLICY)


anything = st.recursive(st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))


@given(anything)
def test_what_is_not_a_list_of_reviews_names_nobody(answer: Any) -> None:
    assert approvers(answer) == []


@pytest.mark.parametrize("change", [{"outcome": "fail"}, {"outcome": "inconclusive"}, {"bound": False}])
def test_only_a_bound_pass_can_be_approved(change: dict[str, object]) -> None:
    with pytest.raises(Refused):
        approve(judged(**change), "bob", POLICY)


def given_approval(hours: float = 0, digest: str = "v" * 64) -> Approval:
    return Approval(
        verdict_digest=digest,
        candidate_model="g" * 64,
        baseline_model="b" * 64,
        approved_by="alice",
        approved_at=records.now() - timedelta(hours=hours),
        run_url=None,
    )


@pytest.mark.parametrize(
    ("approval", "why"),
    [
        (given_approval(digest="w" * 64), "approve this one"),
        (given_approval(hours=25), "older than 24 hours"),
        (given_approval(hours=-1), "not come yet"),
    ],
)
def test_an_approval_that_does_not_fit_moves_nothing(approval: Approval, why: str) -> None:
    world = World()
    with pytest.raises(Refused, match=why):
        run(world.actor(), approval=approval)
    assert (world.written, world.held) == ([], None)


def test_an_approval_that_fits_is_kept() -> None:
    check_approval(given_approval(hours=23.9), judged(), POLICY, records.now())
    world = World()
    done = run(world.actor(), approval=given_approval())
    assert done.approved_by == world.state.approved_by == "alice"


def test_an_approval_without_a_time_zone_is_no_record(tmp_path: Path) -> None:
    document = {**given_approval().model_dump(mode="json"), "approved_at": "2026-01-01T00:00:00"}
    path = tmp_path / "approval.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match="approved_at"):
        records.read(Approval, path)
