"""Azure as it stands before a release, made once and copied: a base model live, and the same with the fine-tune done.

The copy of the repository must hold `States.files()`, or the fine-tune has other inputs and runs again.
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path

from scripts import digests
from tests.workflows.azure import Azure
from tests.workflows.isolation import Isolation
from tests.workflows.repository import copy
from tests.workflows.tiny import make

CONFIG = {"MLOPS_CONFIG": make.ENVIRONMENT}


@dataclass(frozen=True)
class States:
    """Folders for `Azure.restore`. `out`: the records of the first release (model-baseline.json, dataset.json …)."""

    folder: Path

    @property
    def blue_live(self) -> Path:
        """The random base model is blue and has all the traffic; nothing was trained."""
        return self.folder / "blue-live"

    @property
    def trained(self) -> Path:
        """As before, and the training job of `States.files()` has completed: `train` attaches."""
        return self.folder / "trained"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def base_model(self) -> Path:
        return self.folder / "base"

    def files(self, **changed: str) -> dict[str, str | None]:
        """`make.files` with the recipe starting from the registered base model."""
        return make.files(digests.of_folder(self.base_model)[:12], **changed)


def prepare(folder: Path, isolation: Isolation) -> States:
    """Make the states in `folder` unless they are there; processes that ask at the same time wait for the first."""
    states = States(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _make(states, isolation)
            (folder / "done").touch()
    return states


def _make(states: States, isolation: Isolation) -> None:
    folder = states.folder
    make.base_model(states.base_model)
    repository = copy(folder / "repository", states.files())
    azure = Azure(folder / "azure", isolation)
    base, out = str(folder / "out/model-baseline.json"), states.out

    def step(*arguments: str, record: str) -> None:
        azure.scripts(*arguments, "--out", str(out / record), cwd=repository.path, env=CONFIG)

    try:
        azure.start()
        step("provision", record="provision.json")
        step("data", record="dataset.json")
        step("register", "--folder", str(states.base_model), "--name", make.BASE, record="model-baseline.json")
        step("deploy", "--first", "--deployment", "blue", "--model", base, record="deployment-blue.json")
        azure.save(states.blue_live)
        azure.start()
        step("train", "--recipe", make.RECIPE, "--dataset", str(out / "dataset.json"), record="training.json")
        azure.save(states.trained)
    finally:
        azure.discard()
