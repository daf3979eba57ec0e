"""Fixtures of the workflow tests: a private network, a copy of the repository, act."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflows import isolation as isolations
from tests.workflows.act import Act
from tests.workflows.azure import Azure
from tests.workflows.isolation import Isolation
from tests.workflows.repository import Repository, copy
from tests.workflows.tiny.states import States


def pytest_report_header() -> str:
    alone = "in a network of their own"
    return f"workflow tests: {alone if isolations.possible() else 'NOT isolated (no namespaces here)'}"


@pytest.fixture(scope="session")
def isolation() -> Iterator[Isolation]:
    made = isolations.start()
    yield made
    made.close()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A copy of the working tree, to change as a test likes (`commit({path: text})`)."""
    return copy(tmp_path / "repository")


@pytest.fixture
def act(repository: Repository, tmp_path: Path, isolation: Isolation) -> Act:
    """Runs workflows of that copy: `act.run("pull_request", "pr.yml", payload={…})`."""
    return Act(repository, tmp_path / "state", isolation)


@pytest.fixture(scope="session")
def states(tmp_path_factory: pytest.TempPathFactory, isolation: Isolation) -> States:
    """Azure before a release, made once for all workers (some twenty seconds)."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    return States(shared / "states", isolation)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory, isolation: Isolation) -> Iterator[Azure]:
    """A local Azure ML for the tests of one file; `azure.restore(states.blue_live)` starts it."""
    made = Azure(tmp_path_factory.mktemp("azure") / "home", isolation)
    yield made
    made.discard()
