"""What the tests of releases share: a repository of the tiny task, an approval, and the jobs a release consists of."""

from __future__ import annotations

import json
from pathlib import Path

from tests.workflows.act import Act
from tests.workflows.azure import Azure
from tests.workflows.isolation import Isolation
from tests.workflows.repository import copy
from tests.workflows.tiny import make
from tests.workflows.tiny.states import CONFIG, States

ENDPOINT = "tiny-triage"
RUNS = "repos/acme/phi-release-train/actions/runs"
REVIEW = {"state": "approved", "user": {"login": "rosa"}, "environments": [{"name": "production-approval"}]}
APPROVED = {f"api {RUNS}/": json.dumps([REVIEW])}
NOBODY_APPROVED = {f"api {RUNS}/": "[]"}
NOBODY_AT_WORK = {
    **APPROVED,
    f"api --method GET {RUNS}?": json.dumps({"workflow_runs": []}),
    "api --method GET repos/acme/phi-release-train/compare/main...": json.dumps({"status": "behind"}),
}
TO_THE_VERDICT = {"plan": "success", "train/train": "success", "judge/judge": "success"}
GREEN = {**TO_THE_VERDICT, "approve": "success", "rollout/shift": "success", "notes": "success"}


def train(folder: Path, isolation: Isolation, azure: Azure, states: States) -> Act:
    """The repository with the tiny task, led to `azure`. Every job signs in as its environment's own identity."""
    repository = copy(folder / "repository", states.files())
    variables = {**azure.variables, **CONFIG, "RECIPE": make.RECIPE, "WAIT_MINUTES": "5", **azure.of_environments()}
    return Act(repository, folder / "state", isolation, azure.of_jobs(), variables)
