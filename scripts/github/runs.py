"""What the schedule asks GitHub before it goes on with a release: is a run at it already, and is its commit ours?"""

import os
from typing import Any

from scripts.errors import InvalidInput, Refused
from scripts.github import api

RELEASING = (".github/workflows/release.yml", ".github/workflows/retrain.yml")
RESUMING = ".github/workflows/resume.yml"
# A run that waits for an approval has its verdict, and is not looked for; all others may be at any step.
AT_WORK = ("queued", "in_progress", "pending", "requested")


def active_commits() -> set[str] | None:
    """Commits that a release is at work on; None when another resumed release is, whose commit GitHub does not tell.

    Raises InvalidInput outside a GitHub job, GitHubFailed when GitHub does not tell.
    """
    answer = api.call("GET", f"repos/{_repository()}/actions/runs?per_page={api.PAGE}")
    if not isinstance(answer, dict) or "workflow_runs" not in answer:
        raise api.GitHubFailed("GitHub did not list its runs, so a release might be started twice; try again.")
    return at_work(answer["workflow_runs"], os.environ.get("GITHUB_RUN_ID", ""))


def check_on_main(commit: str) -> None:
    """Raises Refused unless `commit` is on the default branch.

    The commit comes from a tag in Azure, and GitHub checks out any commit of any fork by its SHA: a tag must not be a
    way to run code that nobody reviewed with production's identity.
    """
    place = f"repos/{_repository()}"
    branch = str((api.call("GET", place) or {}).get("default_branch") or "main")
    compared = api.find(f"{place}/compare/{branch}...{commit}") or {}
    if compared.get("status") not in ("identical", "behind"):
        raise Refused(f"Commit {commit} of the waiting release is not on {branch}: nothing of it is run.")


def _repository() -> str:
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    if not repository:
        raise InvalidInput("--skip-active asks GitHub about its runs: set GITHUB_REPOSITORY, or leave it out.")
    return repository


def at_work(runs: list[dict[str, Any]], mine: str) -> set[str] | None:
    """`runs` as GitHub lists them; `mine` is the id of the run that asks."""
    others = [run for run in runs if run["status"] in AT_WORK and str(run["id"]) != mine]
    # A path may carry "@refs/heads/main" behind it.
    if any(str(run["path"]).partition("@")[0] == RESUMING for run in others):
        return None
    return {str(run["head_sha"]) for run in others if str(run["path"]).partition("@")[0] in RELEASING}
