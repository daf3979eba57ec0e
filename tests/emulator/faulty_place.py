"""An emulator of its own with a fault plan, an endpoint phi in it, and blue and green on that."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from emulator.command import command_env
from emulator.context import Settings
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from tests.emulator.conftest import GROUP, REGION, WORKSPACE

HEADER = "azureml-model-deployment"
SCORE = "def init():\n    pass\ndef run(raw):\n    return {}\n"


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def live(endpoint: Any) -> dict[str, int]:
    """Its weights without the zeros that the SDK adds to some reads."""
    return {name: weight for name, weight in endpoint.traffic.items() if weight}


@dataclass
class Place:
    """An emulator with a fault plan, an endpoint phi in it, and blue and green on that."""

    settings: Settings
    plan: Path
    ml: Any = None
    key: str = ""
    seen: int = 0

    def faults(self, *faults: dict[str, Any]) -> None:
        """From now on these: written beside and renamed, as a careful test does."""
        beside = self.plan.with_suffix(".new")
        beside.write_text(yaml.safe_dump({"seed": 1, "faults": list(faults)}))
        beside.replace(self.plan)
        self.seen = len(self._lines())

    def strikes(self) -> list[dict[str, Any]]:
        """What struck since the plan was changed."""
        return self._lines()[self.seen :]

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.settings.home / "faults.jsonl").read_text().splitlines()]

    def traffic(self) -> dict[str, int]:
        return live(self.ml.online_endpoints.get("phi"))

    def begin(self, weights: dict[str, int], **tags: str) -> Any:
        endpoint = self.ml.online_endpoints.get("phi")
        endpoint.traffic, endpoint.tags = weights, tags
        return self.ml.online_endpoints.begin_create_or_update(endpoint)

    def deployment(self, name: str, **settings: Any) -> Any:
        from azure.ai.ml.entities import CodeConfiguration, ManagedOnlineDeployment, OnlineRequestSettings

        limits = {"request_timeout_ms": 3000, "max_concurrent_requests_per_instance": 4}
        return ManagedOnlineDeployment(
            name=name,
            endpoint_name="phi",
            code_configuration=CodeConfiguration(code=str(self.plan.parent / "code"), scoring_script="score.py"),
            environment="azureml:tiny:1",
            instance_type="Standard_E4s_v3",
            instance_count=settings.get("instances", 1),
            request_settings=OnlineRequestSettings(**limits),
        )

    def begin_deploy(self, name: str, **settings: Any) -> Any:
        return self.ml.online_deployments.begin_create_or_update(self.deployment(name, **settings))

    def ask(self, deployment: str = "green") -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}", HEADER: deployment}
        return httpx.post(f"https://phi.{REGION}.inference.ml.azure.com/score", json={}, headers=headers, timeout=30)

    def rows(self, last: int) -> list[tuple[Any, ...]]:
        time.sleep(0.3)  # the log is written by a thread of its own
        query = "SELECT deployment, status, model_status FROM requests ORDER BY at DESC LIMIT ?"
        with sqlite3.connect(self.settings.home / "traffic.db") as database:
            return list(database.execute(query, (last,)))[::-1]

    def writes(self) -> int:
        """How many times a PUT of the endpoint has reached the service."""
        lines = (self.settings.home / "requests.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in lines if '"PUT"' in line]
        return sum(each["path"].endswith("/onlineEndpoints/phi") for each in found)


@contextmanager
def faulty_place(folder: Path) -> Iterator[tuple[Place, dict[str, str]]]:
    """The place, with nothing going wrong yet, and the environment in which the SDK finds it."""
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Environment, ManagedOnlineEndpoint, Workspace
    from azure.identity import DefaultAzureCredential
    from azure.mgmt.resource.resources import ResourceManagementClient

    (folder / "code").mkdir()
    (folder / "code" / "score.py").write_text(SCORE)
    (folder / "plan.yaml").write_text("faults: []")
    home = folder / "home"
    serve = start_serve(Options(home, {}, 0.05, folder / "plan.yaml"), detached=False)
    try:
        settings = Settings.load(home)
        variables = command_env(settings)
        variables.pop(MARK)
        with environment(variables):
            credential, subscription = DefaultAzureCredential(), settings.subscription_id
            groups = ResourceManagementClient(credential, subscription).resource_groups
            groups.create_or_update(GROUP, {"location": REGION})
            ml = MLClient(credential, subscription, GROUP, WORKSPACE)
            ml.workspaces.begin_create(Workspace(name=WORKSPACE, location=REGION)).result()
            ml.environments.create_or_update(Environment(name="tiny", version="1", image="mcr.microsoft.com/any"))
            ml.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="phi", auth_mode="key")).result()
            place = Place(settings, folder / "plan.yaml", ml, ml.online_endpoints.get_keys("phi").primary_key)
            for poller in [place.begin_deploy(name) for name in ("blue", "green")]:
                poller.result()
        yield place, variables
    finally:
        stop_serve(serve, home)
