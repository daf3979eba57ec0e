"""Which releases GitHub is working on right now, so that the schedule does not start them a second time."""

import os
from typing import Any

from scripts.errors import InvalidInput
from scripts.github import api

RELEASING = (".github/workflows/release.yml", ".github/workflows/retrain.yml")
RESUMING = ".github/workflows/resume.yml"
# A run that waits for an approval has its verdict, and is not looked for; all others may be at any step.
AT_WORK = ("queued", "in_progress", "pending", "requested")


def active_commits() -> set[str] | None:
    """Commits that a release is at work on; None when another resumed release is, whose commit GitHub does not tell.

    Raises InvalidInput outside a GitHub job, GitHubFailed when GitHub does not tell.
    """
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    if not repository:
        raise InvalidInput("--skip-active asks GitHub for its runs: set GITHUB_REPOSITORY, or leave it out.")
    answer = api.call("GET", f"repos/{repository}/actions/runs?per_page={api.PAGE}")
    if not isinstance(answer, dict) or "workflow_runs" not in answer:
        raise api.GitHubFailed("GitHub did not list its runs, so a release might be started twice; try again.")
    return at_work(answer["workflow_runs"], os.environ.get("GITHUB_RUN_ID", ""))


def at_work(runs: list[dict[str, Any]], mine: str) -> set[str] | None:
    """`runs` as GitHub lists them; `mine` is the id of the run that asks."""
    others = [run for run in runs if run["status"] in AT_WORK and str(run["id"]) != mine]
    # A path may carry "@refs/heads/main" behind it.
    if any(str(run["path"]).partition("@")[0] == RESUMING for run in others):
        return None
    return {str(run["head_sha"]) for run in others if str(run["path"]).partition("@")[0] in RELEASING}
