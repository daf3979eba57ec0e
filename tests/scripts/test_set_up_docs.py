"""The set-up page, followed to the letter: its commands, in its order, in an empty subscription that enforces roles."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emulator.command import command_env
from emulator.context import Settings as AzureSettings
from emulator.identity import Tokens
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from tests.scripts.github import gh

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "set-up.md"
COMMAND = re.compile(r"^(?:\.venv/bin/)?python -m scripts (.+)$", re.MULTILINE)
# One after the other in one process, because starting ten takes longer than all they do.
ONE_BY_ONE = """
import os, shlex, sys
from scripts.__main__ import main
for line in sys.argv[1:]:
    words = [os.path.expandvars(word) for word in shlex.split(line)]
    sys.argv = ["scripts", *words]
    if code := main():
        sys.exit(code)
    print("DONE", line, flush=True)
"""
OF_THE_ENGINEER = "Microsoft.ManagedIdentity"  # who signs in here as an identity; at a real desk it is a person
ENGINEER = "repo:acme/desk:environment:platform-engineer"


def commands() -> list[str]:
    """What the page's code blocks have somebody run of ours."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [found[1] for block in blocks for found in COMMAND.finditer(block)]


def test_the_page_shows_every_step() -> None:
    names = [line.split()[0] for line in commands()]
    assert set(names) == {"doctor", "provision", "live"}
    assert any(line.startswith("provision github") for line in commands())


def become_owner(settings: AzureSettings, folder: Path) -> dict[str, str]:
    """Sign-in of a platform engineer: nobody special to the local Azure ML, but somebody with the role Owner."""
    from azure.identity import WorkloadIdentityCredential
    from azure.mgmt.authorization import AuthorizationManagementClient
    from azure.mgmt.authorization.v2022_04_01.models import RoleAssignmentCreateParameters
    from azure.mgmt.msi import ManagedServiceIdentityClient
    from azure.mgmt.resource.resources import ResourceManagementClient

    issuer, sub = Tokens(settings.home, settings.tenant_id), settings.subscription_id
    (folder / "root").write_text(issuer.assertion(settings.federated_subject))
    (folder / "engineer").write_text(issuer.assertion(ENGINEER))
    root: Any = WorkloadIdentityCredential(
        tenant_id=settings.tenant_id, client_id=settings.client_id, token_file_path=str(folder / "root")
    )
    management = ResourceManagementClient(root, sub)
    management.providers.register(OF_THE_ENGINEER)
    management.resource_groups.create_or_update("rg-desk", {"location": "eastus2"})
    msi = ManagedServiceIdentityClient(root, sub)
    made = msi.user_assigned_identities.create_or_update("rg-desk", "id-engineer", {"location": "eastus2"})
    trust = {
        "issuer": "https://token.actions.githubusercontent.com",
        "subject": ENGINEER,
        "audiences": ["api://AzureADTokenExchange"],
    }
    msi.federated_identity_credentials.create_or_update("rg-desk", "id-engineer", "desk", {"properties": trust})
    roles = AuthorizationManagementClient(root, sub)
    [owner] = roles.role_definitions.list(f"/subscriptions/{sub}", filter="roleName eq 'Owner'")
    wanted = RoleAssignmentCreateParameters(role_definition_id=str(owner.id), principal_id=str(made.principal_id))
    roles.role_assignments.create(f"/subscriptions/{sub}", "00000000-0000-0000-0000-00000000d0c5", wanted)
    return {"AZURE_CLIENT_ID": str(made.client_id), "AZURE_FEDERATED_TOKEN_FILE": str(folder / "engineer")}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_followed_literally_it_ends_with_a_train_that_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "azure"
    monkeypatch.delenv("EMULATOR_PROVIDERS")  # an empty subscription has registered nothing
    serve = start_serve(Options(home, {}, operation_seconds=0.0), detached=False)
    try:
        settings = AzureSettings.load(home)
        given = {name: value for name, value in command_env(settings).items() if name != MARK}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        for name in ("scripts", "training", "serving", "data", "eval", ".github"):  # its records are written beside
            (tmp_path / "repository").mkdir(exist_ok=True)
            (tmp_path / "repository" / name).symlink_to(ROOT / name)
        environment = {
            **os.environ,
            **become_owner(settings, tmp_path),
            "PATH": f"{gh.install(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}",
            "GH_STATE": str(gh.new_state(tmp_path / "github.json")),
            "GITHUB_REPOSITORY": gh.REPOSITORY,
            "MLOPS_CONFIG": "scripts/environments/production.yaml",
            "MLOPS_ALERT_EMAILS": "on-call@example.com",
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-c", ONE_BY_ONE, *commands()],
            cwd=tmp_path / "repository",
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    finally:
        stop_serve(serve, home)
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count("DONE ") == len(commands())
    out = tmp_path / "repository" / "out"
    provisioned = json.loads((out / "provision.json").read_text())
    assert [each["name"] for each in provisioned["resources"] if each["state"] != "created"] == [OF_THE_ENGINEER]
    doctor = json.loads((out / "doctor.json").read_text())
    assert {each["outcome"] for each in doctor["findings"]} == {"ok"}
    hub = json.loads((tmp_path / "github.json").read_text())
    for name, client in provisioned["clients"].items():
        assert hub["environments"][name]["variables"]["AZURE_CLIENT_ID"] == client
    assert {part["state"] for part in json.loads((out / "destroy-plan.json").read_text())["parts"]} == {"goes"}
