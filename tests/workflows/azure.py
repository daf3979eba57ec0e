"""A local Azure ML inside the tests' network, and what a test asks of it afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.child_env import command_environment, github_job_environment
from emulator.context import Settings
from emulator.home import claim
from emulator.processes import MARK, sweep
from emulator.rbac import BUILT_IN
from emulator.store import Resource, Store
from tests.workflows.isolation import Isolation
from tests.workflows.repository import ROOT, TOKENS_FROM, variable

OPERATION_SECONDS = "0.02"
REPOSITORY = "acme/phi-release-train"
STOP_SECONDS = 30.0
# act lays these over the job's environment; the rest of the emulator's (telemetry off, promptflow's home) goes along.
LOGIN = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_SUBSCRIPTION_ID")


@dataclass
class Azure:
    """One Azure ML in `home`. `start` and `stop` keep its state; `save` and `restore` copy it while it is stopped."""

    home: Path
    isolation: Isolation
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> None:
        claim(self.home)
        (self.home / "logs").mkdir(exist_ok=True)
        argv = [sys.executable, "-m", "emulator", "serve", "--home", str(self.home), "--follow-stdin"]
        argv += ["--operation-seconds", OPERATION_SECONDS]
        kept = {name: value for name, value in os.environ.items() if name != MARK}
        with (self.home / "logs" / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.isolation.argv(argv),
                cwd=ROOT,
                env={**kept, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,  # it stops when this closes, also when this process dies
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout
        line = self._process.stdout.readline()
        if "ready" not in line:
            raise RuntimeError(
                f"the local Azure ML did not start: {line or (self.home / 'logs/serve.log').read_text()}"
            )

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def discard(self) -> None:
        """End everything at once; the state is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            sweep(self.settings.session)
        shutil.rmtree(self.home, ignore_errors=True)

    def save(self, place: Path) -> None:
        """Keep a copy of the state, to begin again from it."""
        self.stop()
        shutil.copytree(self.home, place)

    def restore(self, place: Path) -> None:
        """Begin (again) with a state that was saved, in this folder or another."""
        self.discard()
        shutil.copytree(place, self.home)
        self.start()

    @property
    def settings(self) -> Settings:
        return Settings.load(self.home)

    @property
    def variables(self) -> dict[str, str]:
        """The repository's variables that lead a workflow to this Azure."""
        return {name: command_environment(self.settings)[name] for name in LOGIN}

    def environment(self, subject: str = "", seconds: float = 300) -> dict[str, str]:
        """What a GitHub job's runner has, for `Act.run(env=…)`; the ids of LOGIN are the workflow's to set.

        `subject` and `seconds`: of the OIDC token that the job is given.
        """
        given = github_job_environment(self.settings, **({"subject": subject} if subject else {}), seconds=seconds)
        return {name: value for name, value in given.items() if name not in LOGIN}

    def of_jobs(self) -> dict[str, str]:
        """As `environment`, without an address for tokens: act would lay it over those of the jobs' environments."""
        return {name: value for name, value in self.environment().items() if name != TOKENS_FROM}

    def of_environments(self) -> dict[str, str]:
        """Variables by which each GitHub environment's jobs sign in as the identity that `provision` made for it."""
        found: dict[str, str] = {}
        for identity in self.find(r".*/userAssignedIdentities/id-github-[^/]+"):
            name = identity["name"].removeprefix("id-github-")
            given = github_job_environment(self.settings, subject=f"repo:{REPOSITORY}:environment:{name}")
            found[variable("AZURE_CLIENT_ID", name)] = identity["properties"]["clientId"]
            found[variable(TOKENS_FROM, name)] = given[TOKENS_FROM]
        return found

    def run(self, argv: list[str], cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command against it, signed in as outside GitHub; CalledProcessError with its output when it fails."""
        kept = {name: value for name, value in os.environ.items() if name != MARK}
        full = {**kept, **command_environment(self.settings), **(env or {})}
        done = subprocess.run(self.isolation.argv(argv), cwd=cwd, env=full, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout, done.stderr)
            done.check_returncode()
        return done

    def scripts(self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
        """`python -m scripts …`; what it printed."""
        return self.run([sys.executable, "-m", "scripts", *arguments], cwd, env).stdout

    # What is there now, read from its database.

    def find(self, id_regex: str) -> list[Resource]:
        store = Store(self.home / "state.db")
        try:
            return store.find(id_regex)
        finally:
            store.close()

    def identity(self, name: str) -> dict[str, str]:
        """A managed identity's clientId and principalId."""
        return dict(self.find(rf".*/userAssignedIdentities/{name}")[0]["properties"])

    @contextlib.contextmanager
    def without(self, role: str, identity: Mapping[str, str]) -> Iterator[None]:
        """While this lasts the identity has the role nowhere."""
        [guid] = [each.id for each in BUILT_IN if each.name == role]
        lost = [
            each
            for each in self.find(r".*/roleAssignments/[^/]+")
            if each["properties"]["principalId"] == identity["principalId"]
            and each["properties"]["roleDefinitionId"].endswith(guid)
        ]
        assert lost, f"it does not have the role {role}"
        store = Store(self.home / "state.db")
        try:
            for each in lost:
                store.delete(each["id"])
            yield
        finally:
            for each in lost:
                store.put(each["id"], each)
            store.close()

    def requests(self) -> list[dict[str, Any]]:
        """Every request with its answer, oldest first."""
        return [json.loads(line) for line in (self.home / "requests.jsonl").read_text().splitlines()]

    def traffic(self, endpoint: str) -> dict[str, int]:
        """The weights that are not zero."""
        found = self.find(rf".*/onlineEndpoints/{endpoint}")
        return {name: weight for name, weight in found[0]["properties"]["traffic"].items() if weight} if found else {}

    def endpoint_tags(self, endpoint: str) -> dict[str, str]:
        return dict(self.find(rf".*/onlineEndpoints/{endpoint}")[0].get("tags") or {})

    def deployments(self, endpoint: str) -> dict[str, str]:
        """Colour to the ARM id of its model."""
        return {each["name"]: each["properties"]["model"] for each in self.find(rf".*/{endpoint}/deployments/[^/]+")}

    def jobs(self) -> dict[str, str]:
        """Name to status."""
        return {job["name"]: job["properties"]["status"] for job in self.find(r".*/workspaces/[^/]+/jobs/[^/]+")}

    def job_tags(self, name: str) -> dict[str, str]:
        return dict(self.find(rf".*/workspaces/[^/]+/jobs/{name}")[0]["properties"].get("tags") or {})

    def models(self) -> dict[str, dict[str, str]]:
        """NAME:VERSION to its tags."""
        found = self.find(r".*/workspaces/[^/]+/models/[^/]+/versions/[^/]+")
        return {":".join(each["id"].split("/")[-3::2]): dict(each["properties"].get("tags") or {}) for each in found}

    def refused(self) -> list[dict[str, Any]]:
        """Every address outside that something tried to reach."""
        return [json.loads(line) for line in (self.home / "refused.jsonl").read_text().splitlines()]
