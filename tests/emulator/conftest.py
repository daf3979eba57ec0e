"""One real emulator for all tests of this folder that ask for it, spoken to by the unmodified SDK."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from emulator.command import command_env
from emulator.context import Settings
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from eval.promptflow_home import HOME

GROUP, WORKSPACE, REGION = "rg-mlops", "ws-mlops", "eastus2"
ROOT = Path(__file__).parents[2]


@dataclass
class Environment:
    """os.environ as tests of this folder see it while an emulator runs; other folders never do."""

    variables: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] | None = None

    def enter(self) -> None:
        if self.variables and self.before is None:
            self.before = dict(os.environ)
            os.environ.clear()
            # promptflow may be imported here, and stays at the home that this process has chosen for it.
            os.environ.update(self.variables | {HOME: self.before[HOME]})

    def leave(self) -> None:
        if self.before is not None:
            os.environ.clear()
            os.environ.update(self.before)
            self.before = None


_ENVIRONMENT = Environment()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    _ENVIRONMENT.enter()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    _ENVIRONMENT.leave()


@pytest.fixture(scope="session")
def emulator_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings (ports, home, keys) of the running emulator."""
    home = tmp_path_factory.mktemp("emulator") / "home"
    # What stands behind the catalogue; test_serverless.py puts a tiny model there.
    os.environ["EMULATOR_SERVICE_MODEL"] = str(home.parent / "service-model")
    serve = start_serve(Options(home, {}, operation_seconds=0.05), detached=False)
    try:
        yield Settings.load(home)
    finally:
        stop_serve(serve, home)


@pytest.fixture(scope="session")
def emulator_env(emulator_settings: Settings) -> dict[str, str]:
    """The whole environment for a subprocess that is to talk to the emulator. Also set in this process meanwhile."""
    variables = command_env(emulator_settings)
    variables.pop(MARK)  # or the emulator would sweep us away when it stops
    _ENVIRONMENT.variables = variables
    _ENVIRONMENT.enter()
    return variables


@pytest.fixture(scope="session")
def emulator_home(emulator_settings: Settings) -> Path:
    """Where requests.jsonl, refused.jsonl and logs/ are."""
    return emulator_settings.home


@pytest.fixture(scope="session")
def credential(emulator_env: dict[str, str]) -> Any:  # noqa: ARG001 (it sets the environment)
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


@pytest.fixture(scope="session")
def ml_client(emulator_env: dict[str, str], credential: Any) -> Any:
    """MLClient on the workspace ws-mlops in rg-mlops, both freshly made."""
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Workspace
    from azure.mgmt.resource.resources import ResourceManagementClient

    subscription = emulator_env["AZURE_SUBSCRIPTION_ID"]
    ResourceManagementClient(credential, subscription).resource_groups.create_or_update(GROUP, {"location": REGION})
    client = MLClient(credential, subscription, GROUP, WORKSPACE)
    client.workspaces.begin_create(Workspace(name=WORKSPACE, location=REGION)).result()
    return client


@dataclass(frozen=True)
class Cli:
    """`python -m emulator …` with a home of its own."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != MARK}
        return {**kept, "EMULATOR_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "emulator", *arguments]
        return subprocess.Popen(
            argv, env=self.environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )

    def run(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=seconds)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    one = Cli(tmp_path / "emulator")
    yield one
    one.run("down")
