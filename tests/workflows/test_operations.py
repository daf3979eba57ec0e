"""What runs on a schedule or by hand beside releases: reap, provision, report; and what people read when it cannot.

Nothing here moves traffic for good, so all tests share one Azure with the base model live as blue.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.scripts.github import gh as github
from tests.workflows.act import Act, Result
from tests.workflows.azure import Azure
from tests.workflows.isolation import Isolation
from tests.workflows.releases import ENDPOINT, train
from tests.workflows.repository import variable
from tests.workflows.tiny.states import States

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def operations(
    tmp_path_factory: pytest.TempPathFactory, isolation: Isolation, azure: Azure, states: States
) -> Iterator[Act]:
    azure.restore(states.blue_live)
    yield train(tmp_path_factory.mktemp("operations"), isolation, azure, states)
    assert azure.refused() == []


def test_a_fork_does_nothing_on_a_schedule(operations: Act) -> None:
    fork = {"repository": {"default_branch": "main", "full_name": "someone/fork", "fork": True}}
    for workflow in ("retrain.yml", "resume.yml", "watchdog.yml", "reap.yml"):
        assert operations.run("schedule", workflow, payload=fork).results == {}


class TestReap:
    def test_it_only_looks_unless_told_otherwise(self, operations: Act, azure: Azure) -> None:
        before = azure.deployments(ENDPOINT)
        done = operations.run("schedule", "reap.yml")
        assert done.results == {"reap": "success"}, str(done)
        assert "dry run, nothing touched" in done.summaries["reap"]
        assert azure.deployments(ENDPOINT) == before


class TestProvision:
    def test_the_plan_comes_first_and_alone(self, operations: Act) -> None:
        done = operations.run("workflow_dispatch", "provision.yml")
        assert done.results == {"plan": "success"}, str(done)
        assert re.search(r": 0 of \d+ resources missing", done.summaries["plan"]), done.summaries

    def test_applied_twice_it_creates_nothing(self, operations: Act) -> None:
        done = operations.run("workflow_dispatch", "provision.yml", inputs={"apply": True})
        assert done.results == {"plan": "success", "apply": "success"}, str(done)
        assert re.search(r": 0 of \d+ resources created", done.summaries["apply"]), done.summaries


class TestReportFailure:
    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        github.install(tmp_path / "bin")
        return Path(github.new_state(tmp_path / "state.json"))

    def test_one_issue_for_a_failing_workflow_closed_when_it_is_green(self, operations: Act, state: Path) -> None:
        act = replace(operations, environment={**operations.environment, "GH_STATE": str(state)})
        hostile = 'Release"; $(touch pwned) @everyone'
        for number, conclusion in ((1, "failure"), (2, "cancelled"), (2, "cancelled"), (3, "success")):
            done = reported(act, state.parent / "bin", conclusion, number, name=hostile)
            assert done.code == 0, str(done)
        [issue] = json.loads(state.read_text())["issues"]
        assert issue["state"] == "closed"
        assert "runs/1" in issue["body"]
        assert "@everyone" not in issue["title"] + issue["body"]


def reported(act: Act, tools: Path, conclusion: str, number: int, name: str) -> Result:
    run = {
        "id": number,
        "workflow_id": 9,
        "name": name,
        "conclusion": conclusion,
        "head_branch": "main",
        "html_url": f"https://github.com/acme/phi-train/actions/runs/{number}",
    }
    payload = {"action": "completed", "workflow_run": run}
    environment = {"GITHUB_REPOSITORY": github.REPOSITORY}
    return act.run("workflow_run", "report-failure.yml", payload=payload, env=environment, tools=tools)


# Whatever is wrong, the last annotation and the job's summary say which setting to mend, and where.
def variables(act: Act, **changed: str) -> Mapping[str, str]:
    everywhere = {each: value for name, value in changed.items() for each in (name, variable(name, "operations"))}
    return {name: value for name, value in {**act.variables, **everywhere}.items() if value}


class TestBadInput:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            (
                {"AZURE_CLIENT_ID": ""},
                "AZURE_CLIENT_ID is not set: add it in GitHub under Settings → Environments → operations",
            ),
            ({"AZURE_TENANT_ID": ""}, "AZURE_TENANT_ID is not set: add it in GitHub under Settings → Secrets"),
            ({"AZURE_TENANT_ID": "9" * 8 + "-9999-9999-9999-" + "9" * 12}, "set the variable AZURE_TENANT_ID"),
            ({"MLOPS_CONFIG": "scripts/environments/nowhere.yaml"}, "scripts/environments/nowhere.yaml"),
        ],
    )
    def test_a_variable_that_is_missing_or_wrong(self, operations: Act, changed: dict[str, str], said: str) -> None:
        act = replace(operations, variables=variables(operations, **changed))
        done = act.run("schedule", "reap.yml")
        assert done.results == {"reap": "failure"}, str(done)
        assert said in done.errors[-1], done.errors
        assert said in done.summaries["reap"]
        assert not any("Traceback" in line for line in done.log)

    def test_a_login_that_has_expired(self, operations: Act, azure: Azure) -> None:
        done = operations.run("schedule", "reap.yml", env=azure.environment(seconds=-60))
        assert done.results == {"reap": "failure"}
        assert "the job's sign-in token has expired; run the job again" in done.errors[-1]
        assert "expired" in done.summaries["reap"]

    def test_a_job_of_another_environment(self, operations: Act, azure: Azure) -> None:
        subject = "repo:acme/phi-release-train:environment:elsewhere"
        done = operations.run("schedule", "reap.yml", env=azure.environment(subject=subject))
        assert done.results == {"reap": "failure"}
        assert f"is for subject {subject}; add that subject to the federated credentials" in done.errors[-1]
