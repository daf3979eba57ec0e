"""A provisioned local Azure ML for one test module: the commands run against it as they would in a workflow."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.command import command_env
from emulator.context import Settings as EmulatorSettings
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from eval.promptflow_home import HOME
from scripts import settings as settings_of
from scripts.settings import Settings

ROOT = Path(__file__).parents[3]
SCORE = "def init():\n    pass\ndef run(raw):\n    return {}\n"
TERMINAL = ("Completed", "Failed", "Canceled")


@dataclass(frozen=True)
class Ran:
    code: int
    outputs: dict[str, str]
    summary: str
    error: str


@dataclass(frozen=True)
class Azure:
    """One environment: its settings file, its SDK client, and short ways to put things there."""

    folder: Path
    config: Path
    settings: Settings
    ml: Any

    def command(self, *arguments: str) -> Ran:
        """`python -m scripts …` as a workflow's step."""
        files = {name: self.folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        env = {**os.environ, "MLOPS_CONFIG": str(self.config), **{name: str(file) for name, file in files.items()}}
        argv = [sys.executable, "-m", "scripts", *arguments]
        ran = subprocess.run(argv, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
        assert "Traceback" not in ran.stderr, ran.stderr
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        outputs = {name: value for name, _, value in (line.partition("=") for line in lines)}
        return Ran(ran.returncode, outputs, files["GITHUB_STEP_SUMMARY"].read_text(), ran.stderr)

    def policy(self, name: str, **changes: Any) -> str:
        """A copy of a shipped policy with some keys changed; its path."""
        values = yaml.safe_load((ROOT / "scripts/operate" / name).read_text())
        path = self.folder / f"changed-{name}"
        path.write_text(yaml.safe_dump({**values, **changes}))
        return str(path)

    def model(self, version: str, **tags: str) -> None:
        from azure.ai.ml.entities import Model

        weights = self.folder / f"model-{version}"
        weights.mkdir(exist_ok=True)
        (weights / "config.json").write_text(f'{{"version": "{version}"}}')
        model = Model(name=self.settings.model, version=version, path=str(weights), type="custom_model", tags=tags)
        self.ml.models.create_or_update(model)

    def deploy(self, endpoint: str, name: str, version: str) -> None:
        """A real server that needs no model."""
        from azure.ai.ml.entities import CodeConfiguration, ManagedOnlineDeployment

        from scripts.provision import environment_version

        code = self.folder / "code"
        code.mkdir(exist_ok=True)
        (code / "score.py").write_text(SCORE)
        image = self.settings.serving_environment
        deployment = ManagedOnlineDeployment(
            name=name,
            endpoint_name=endpoint,
            model=f"azureml:{self.settings.model}:{version}",
            code_configuration=CodeConfiguration(code=str(code), scoring_script="score.py"),
            environment=f"azureml:{image.name}:{environment_version(image)}",
            instance_type=self.settings.serving.instance_type,
            instance_count=1,
            tags={"release": "as deploy tags it"},
        )
        self.ml.online_deployments.begin_create_or_update(deployment).result()

    def traffic(self, **weights: int) -> None:
        endpoint = self.ml.online_endpoints.get(self.settings.endpoint)
        endpoint.traffic = weights
        self.ml.online_endpoints.begin_create_or_update(endpoint).result()

    def job(self, name: str, line: str, *, wait: bool = True, **tags: str) -> None:
        from azure.ai.ml import command

        from scripts.provision import environment_version

        image = self.settings.training_environment
        job = command(
            name=name,
            command=line,
            experiment_name=self.settings.experiment,
            environment=f"azureml:{image.name}:{environment_version(image)}",
            compute=self.settings.compute.name,
            tags=tags,
        )
        self.ml.jobs.create_or_update(job)
        deadline = time.monotonic() + 60
        while wait and self.ml.jobs.get(name).status not in TERMINAL:
            assert time.monotonic() < deadline, f"job {name} does not end"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """While a module's tests run, this process and its children see the local Azure ML and nothing else."""
    from scripts import azure_ml
    from scripts.provision import provision

    folder = tmp_path_factory.mktemp("operate")
    config = folder / "environments" / "demo.yaml"
    config.parent.mkdir()
    config.write_text((ROOT / "scripts/environments/demo.yaml").read_text())
    home = folder / "azure"
    serve = start_serve(Options(home, {}, operation_seconds=0.05), detached=False)
    before = dict(os.environ)
    try:
        variables = command_env(EmulatorSettings.load(home))
        variables.pop(MARK)  # or the local Azure ML would sweep us away when it stops
        os.environ.clear()
        os.environ.update(variables | {HOME: before[HOME]})  # promptflow may be imported here, and stays at its home
        settings = settings_of.load(config)
        provision(settings)
        yield Azure(folder, config, settings, azure_ml.client(settings))
    finally:
        os.environ.clear()
        os.environ.update(before)
        stop_serve(serve, home)
