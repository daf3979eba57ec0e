"""Azure as it stands before a release, made once and copied: a base model live.

The copy of the repository must hold `States.files()`, or the fine-tune has other inputs and runs again.
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path

from scripts import digests
from tests.workflows.azure import REPOSITORY, Azure
from tests.workflows.isolation import Isolation
from tests.workflows.repository import copy
from tests.workflows.tiny import make

CONFIG = {"MLOPS_CONFIG": make.ENVIRONMENT}


@dataclass(frozen=True)
class States:
    """What `Azure.restore` starts from, made when first asked for; other processes that ask wait for the first."""

    folder: Path
    isolation: Isolation

    @property
    def blue_live(self) -> Path:
        """The random base model is blue and has all the traffic; nothing was trained."""
        return self._made("blue-live")

    @property
    def provisioned(self) -> Path:
        """The base model is registered; nothing is deployed."""
        return self._made("provisioned")

    def _made(self, name: str) -> Path:
        place = self.folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.exists():
                azure = Azure(self.folder / "work", self.isolation)
                try:
                    self._make(azure)
                finally:
                    azure.discard()
        return place

    @property
    def base_model(self) -> Path:
        return self.folder / "base"

    def files(self, **changed: str) -> dict[str, str | None]:
        """`make.files` with the recipe starting from the registered base model, once there is one."""
        return make.files(digests.of_folder(self.base_model)[:12], **changed)

    def _make(self, azure: Azure) -> None:
        make.base_model(self.base_model)
        out, repository = self.folder / "out", copy(self.folder / "repository", self.files()).path
        for name, steps in {
            "provisioned": (
                ["provision", "--repository", REPOSITORY, "--out", out / "provision.json"],
                ["data", "--out", out / "dataset.json"],
                ["register", "--folder", self.base_model, "--name", make.BASE, "--out", out / "base.json"],
            ),
            "blue-live": (
                ["deploy", "--first", "--deployment", "blue", "--model", out / "base.json", "--out", out / "blue.json"],
            ),
        }.items():
            azure.start()
            for step in steps:
                azure.scripts(*map(str, step), cwd=repository, env=CONFIG)
            azure.save(self.folder / name)
