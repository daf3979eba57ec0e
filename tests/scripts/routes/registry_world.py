"""A local Azure ML with a tiny model behind the catalogue, for the tests of `route: registry`."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from data.manifest import Dataset
from emulator.command import command_env
from emulator.context import Settings as EmulatorSettings
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from eval.promptflow_home import HOME
from scripts import dataset as uploads
from scripts import records, train
from scripts import settings as settings_of
from scripts.settings import Settings
from tests.workflows.tiny import make

ROOT = Path(__file__).parents[3]
MODEL = "SmolLM2-135M-Instruct"
RECIPE: dict[str, Any] = {
    "route": "registry",
    "name": "tiny",
    "registry": "azureml",
    "base_model": {"source": MODEL, "revision": "latest"},
    "component": {"name": "chat_completion_pipeline", "version": "latest"},
    "force_rerun": True,
    "training": {"max_steps": 60, "per_device_train_batch_size": 8, "learning_rate": 0.005, "seed": 1},
    "optimisation": {"apply_lora": False},
}


@dataclass(frozen=True)
class World:
    """A provisioned environment, the tiny data set in it, and a copy of what jobs are made of."""

    home: Path
    settings: Settings
    ml: Any
    data: Dataset
    told: list[str] = field(default_factory=list)

    def plan(self, **parts: dict[str, Any]) -> train.Plan:
        content = {**RECIPE, **{part: {**RECIPE[part], **changes} for part, changes in parts.items()}}
        Path("training/recipes/tiny.yaml").write_text(yaml.safe_dump(content))
        return train.plan("tiny", self.data, None)

    def train(self, **parts: dict[str, Any]) -> records.Training:
        self.told.clear()
        done = train.train(self.settings, self.plan(**parts), commit="c" * 40, tell=self.told.append)
        assert isinstance(done, records.Training)
        return done

    def faults(self, *faults: dict[str, Any]) -> None:
        """Have the local Azure ML misbehave like this from now on."""
        new = self.home.parent / "faults.new"
        new.write_text(yaml.safe_dump({"faults": list(faults)}))
        new.rename(self.home.parent / "faults.yaml")

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home / "requests.jsonl").read_text().splitlines()]


@contextmanager
def started(folder: Path) -> Iterator[World]:
    from scripts import azure_ml
    from scripts.provision import provision

    plan = folder / "faults.yaml"
    plan.write_text("faults: []")  # a test may write it anew
    for name in ("scripts", "serving", "eval"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "training", folder / "training", ignore=shutil.ignore_patterns("__pycache__"))
    make.base_model(folder / "base")
    before, where, home = dict(os.environ), Path.cwd(), folder / "azure"
    # So small a model is no faster on two threads, and its servers would take each other's cores.
    os.environ |= {"EMULATOR_SERVICE_MODEL": str(folder / "base"), "OMP_NUM_THREADS": "1"}
    serve = start_serve(Options(home, {}, operation_seconds=0.05, faults=plan), detached=False)
    try:
        variables = command_env(EmulatorSettings.load(home))
        variables.pop(MARK)  # or the local Azure ML would sweep us away when it stops
        os.environ.clear()
        os.environ.update(variables | {HOME: before[HOME]})
        os.chdir(folder)
        values = settings_of.load(ROOT / "scripts/environments/demo.yaml")
        provision(values)
        yield World(home, values, azure_ml.client(values), uploaded(values, folder / "data"))
    finally:
        os.chdir(where)
        os.environ.clear()
        os.environ.update(before)
        stop_serve(serve, home)


def uploaded(values: Settings, folder: Path, version: str = "1", last: str = "") -> Dataset:
    """`last`: one more line of the training file."""
    folder.mkdir()
    rows = {"train": range(1000, 1096), "validation": range(2000, 2008)}
    files: dict[str, dict[str, Any]] = {}
    for split, numbers in rows.items():
        path = folder / f"{split}.jsonl"
        path.write_text(make.jsonl([{"messages": make.row(number)["messages"]} for number in numbers]))
        if split == "train":
            path.write_text(path.read_text() + last)
        files[split] = {"path": path.name, "sha256": split[0].replace("t", "a").replace("v", "b") * 64}
        files[split] |= {"rows": len(numbers), "tokens": 60 * len(numbers)}
    made = Dataset.model_validate(
        {
            **{
                "name": "tickets",
                "version": version,
                "digest": version[0].replace("1", "d") * 64,
                "created_at": "2026-11-29T00:00:00Z",
            },
            **{"token_count": "approximate", "files": files, "checks": []},
        }
    )
    return uploads.upload(values, made, folder)
