"""`report-failure`: one issue for each failing workflow, whatever a run is called and however often it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scripts.errors import InvalidInput
from scripts.github.issues import LABEL, plain, report, run_address
from tests.scripts.github.conftest import GitHub
from tests.scripts.github.gh import REPOSITORY

ROOT = Path(__file__).parents[3]
RUN = f"https://github.com/{REPOSITORY}/actions/runs/"


def told(
    conclusion: str = "failure", run: int = 1, workflow: str = "Release", branch: str = "main"
) -> tuple[str, int | None]:
    done = report(REPOSITORY, workflow, conclusion, f"{RUN}{run}", branch)
    return done.action, done.failures


def issues(github: GitHub) -> list[dict[str, Any]]:
    return list(github.state["issues"])


def test_a_failure_opens_one_issue_and_the_next_ones_comment_on_it(github: GitHub) -> None:
    assert told(run=1) == ("created", 1)
    assert told("timed_out", run=2) == ("commented", 2)
    assert told("cancelled", run=3) == ("commented", 3)
    [issue] = issues(github)
    assert issue["title"] == "Workflow failing: Release"
    assert [label["name"] for label in issue["labels"]] == [LABEL]
    assert f"{RUN}1" in issue["body"]
    assert [f"{RUN}{n}" in comment["body"] for n, comment in zip((2, 3), issue["comments_list"], strict=True)] == [
        True
    ] * 2


def test_the_same_run_is_told_once(github: GitHub) -> None:
    assert told(run=1) == ("created", 1)
    assert told(run=1) == ("already told", 1)
    assert told(run=2) == ("commented", 2)
    assert told(run=2) == ("already told", 2)
    assert told(run=12) == ("commented", 3)  # not mistaken for run 1
    assert len(issues(github)) == 1


def test_a_green_run_closes_it_and_the_next_failure_opens_another(github: GitHub) -> None:
    told(run=1)
    assert told("success", run=2) == ("closed", 1)
    assert issues(github)[0]["state"] == "closed"
    assert told("success", run=3) == ("nothing", 0)
    assert told(run=4) == ("created", 1)
    assert [issue["state"] for issue in issues(github)] == ["closed", "open"]


@pytest.mark.parametrize("conclusion", ["success", "skipped", "neutral", "action_required", "stale", "", "FAILURE"])
def test_nothing_to_tell_changes_nothing(github: GitHub, conclusion: str) -> None:
    assert told(conclusion) == ("nothing", 0)
    assert github.writes() == []


def test_workflows_have_an_issue_each_and_others_issues_stay_as_they_are(github: GitHub) -> None:
    mine = {
        "title": "Workflow failing: Release",
        "labels": [],
        "number": 90,
        "state": "open",
        "comments_list": [],
        "body": "",
    }
    pull = {**mine, "number": 91, "labels": [{"name": LABEL}], "pull_request": {}}
    longer = {**mine, "number": 92, "labels": [{"name": LABEL}], "title": "Workflow failing: Release train"}
    github.change(issues=[mine, pull, longer])
    assert told(workflow="Release") == ("created", 1)
    assert told(workflow="Watchdog") == ("created", 1)
    told("success", run=9, workflow="Release")
    assert [issue["state"] for issue in issues(github)] == ["open", "open", "open", "closed", "open"]


def test_more_issues_and_comments_than_a_page_holds(github: GitHub) -> None:
    other = {"labels": [{"name": LABEL}], "state": "open", "comments_list": [], "body": ""}
    many = [{**other, "title": f"Workflow failing: {n}", "number": 1000 + n} for n in range(100)]
    comments = [{"id": n, "body": f"{RUN}{n}"} for n in range(101)]
    last = {**other, "title": "Workflow failing: Release", "number": 5, "comments_list": comments}
    github.change(issues=[*many, last])
    assert told(run=100) == ("already told", 101)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://example.com/acme/phi-train/actions/runs/1",
        "https://github.com/other/repo/actions/runs/1",
        f"{RUN}1/../../settings",
        f"{RUN}1\n@everyone",
        f"{RUN}1) [click](https://example.com",
        f"{RUN}x",
        f"javascript:{RUN}1",
    ],
)
def test_an_address_that_is_no_run_of_ours_is_refused(github: GitHub, url: str) -> None:
    with pytest.raises(InvalidInput, match="--url") as raised:
        report(REPOSITORY, "Release", "failure", url, "main")
    assert "\n" not in str(raised.value)
    assert github.state["calls"] == []


def test_another_attempt_is_another_run_and_an_own_server_is_ours(
    github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report(REPOSITORY, "R", "failure", f"{RUN}1/attempts/1", "main").action == "created"
    assert report(REPOSITORY, "R", "failure", f"{RUN}1/attempts/2", "main").action == "commented"
    assert len(issues(github)) == 1
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.example.com")
    assert run_address(f"https://git.example.com/{REPOSITORY}/actions/runs/1", REPOSITORY)


@given(st.text())
@example("@everyone `x` <img src=x> [a](b)\n# heading")
@example("\N{RIGHT-TO-LEFT OVERRIDE}\N{ZERO WIDTH SPACE}@\N{ZERO WIDTH SPACE}org/team")
def test_no_text_of_an_event_does_anything(hostile: str) -> None:
    shown = plain(hostile)
    assert shown
    assert len(shown) <= 100
    assert not set("`<>[]|\n\r\x1b") & set(shown)
    assert all(mention.startswith("\N{ZERO WIDTH NON-JOINER}") for mention in shown.split("@")[1:] if mention)
    assert not [c for c in shown.replace("\N{ZERO WIDTH NON-JOINER}", "") if unicodedata.category(c)[0] == "C"]
    assert plain(plain(hostile).replace("\N{ZERO WIDTH NON-JOINER}", "")) == shown


def test_a_hostile_branch_stays_text_in_the_issue(github: GitHub) -> None:
    told(branch="`$(reboot)` @acme/everyone\n\n# Approve me")
    body = issues(github)[0]["body"]
    assert "@acme" not in body
    assert "\n# Approve" not in body
    assert "`'$(reboot)'" in body


def test_the_command_writes_its_outputs(github: GitHub, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts", "report-failure", "--workflow", "[bold]Release", "--branch", "$(id)"]
    command += ["--conclusion", "failure", "--url", f"{RUN}7", "--out", str(tmp_path / "failure.json")]
    env = {**os.environ, "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number = issues(github)[0]["number"]
    assert (tmp_path / "output").read_text() == f"action=created\nissue={number}\n"
    assert "(bold)Release" in (tmp_path / "summary").read_text()
    assert json.loads((tmp_path / "failure.json").read_text())["failures"] == 1
