"""`report-failure`: one open issue for each workflow that fails, told of every failing run once, closed by a green one.

What a `workflow_run` event says of a run was chosen by whoever pushed (a branch may be named anything), so all of it is
hostile text here: it is shortened, loses its control characters, cannot mention anybody and stays inside code marks.
"""

import os
import re
import unicodedata
from typing import Any, Literal

from scripts import records
from scripts.errors import InvalidInput
from scripts.github import api

LABEL = "workflow-failure"
BAD = frozenset({"failure", "cancelled", "timed_out", "startup_failure"})
LONGEST = 100
MEANINGLESS = str.maketrans("`<>|[]", "'()/()")  # what Markdown, HTML or a terminal would read as more than text
Action = Literal["created", "commented", "already told", "closed", "nothing"]


class FailureReport(records.Record):
    """`failure.json`: what was done about one run. `failures` counts the runs that the issue tells of."""

    workflow: str
    conclusion: str
    action: Action
    issue: int | None
    failures: int


def plain(text: str) -> str:
    """Text that cannot do anything in Markdown: one short line without control or invisible characters or mentions."""
    visible = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    harmless = " ".join(visible.split()).translate(MEANINGLESS)
    return harmless.replace("@", "@\N{ZERO WIDTH NON-JOINER}")[:LONGEST] or "(unnamed)"


def run_address(url: str, repository: str) -> str:
    """The address of a run of this repository. Raises InvalidInput for any other."""
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com").rstrip("/")
    pattern = rf"{re.escape(server)}/{re.escape(repository)}/actions/runs/\d{{1,20}}(/attempts/\d{{1,5}})?"
    if not re.fullmatch(pattern, url, re.ASCII | re.IGNORECASE):
        raise InvalidInput(f"--url must be the address of a run of {repository}, not {plain(url)!r}.")
    return url


def report(repository: str, workflow: str, conclusion: str, url: str, branch: str) -> FailureReport:
    """Open, extend or close the issue of a workflow. A run that it already tells of changes nothing."""
    address = run_address(url, repository)
    name, root = plain(workflow), f"repos/{repository}/issues"
    title = f"Workflow failing: {name}"
    mine = [
        issue
        for issue in api.pages(f"{root}?labels={LABEL}&state=open&sort=created&direction=asc")
        if issue["title"] == title and "pull_request" not in issue
    ]
    issue: dict[str, Any] | None = mine[0] if mine else None
    told = _told(root, issue) if issue else []
    number = int(issue["number"]) if issue else None

    def done(action: Action, failures: int, number: int | None = number) -> FailureReport:
        return FailureReport(workflow=name, conclusion=conclusion, action=action, issue=number, failures=failures)

    if conclusion == "success" and issue:
        api.call("POST", f"{root}/{number}/comments", {"body": f"Green again on `{plain(branch)}`: {address}"})
        api.call("PATCH", f"{root}/{number}", {"state": "closed", "state_reason": "completed"})
        return done("closed", len(told))
    if conclusion not in BAD:
        return done("nothing", len(told))
    if address in told:
        return done("already told", len(told))
    line = f"`{plain(conclusion)}` on `{plain(branch)}`: {address}"
    if issue is None:
        body = f"The workflow `{name}` does not work.\n\n{line}\n\nThis issue is closed by its next green run."
        made = api.call("POST", root, {"title": title, "body": body, "labels": [LABEL]})
        return done("created", 1, int(made["number"]))
    api.call("POST", f"{root}/{number}/comments", {"body": f"Failing run {len(told) + 1}: {line}"})
    return done("commented", len(told) + 1)


def _told(root: str, issue: dict[str, Any]) -> list[str]:
    """The addresses of runs in the issue and below it, each once, in order."""
    texts = [issue.get("body") or ""]
    texts += [each.get("body") or "" for each in api.pages(f"{root}/{issue['number']}/comments")]
    found = re.findall(r"https?://\S+/actions/runs/\d+(?:/attempts/\d+)?", "\n".join(texts))
    return list(dict.fromkeys(found))
