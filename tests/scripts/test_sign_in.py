"""Signing in as a GitHub job: each command has an assertion of its own, and a wrong set-up is one sentence."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.child_env import github_job_environment
from emulator.context import Settings
from emulator.launcher import Options, start_serve, stop_serve

ROOT = Path(__file__).parents[2]
# What a command does: sign in, then ask Azure for something.
CODE = """
import json, os, sys
from collections.abc import Iterator
from pathlib import Path
from scripts import azure_ml, sign_in
from scripts.errors import ScriptError
try:
    with azure_ml.explained("Signing in"):
        token = azure_ml.credential().get_token("https://management.azure.com/.default").token
    file = Path(os.environ["AZURE_FEDERATED_TOKEN_FILE"])
    first, mode = file.read_text(), file.stat().st_mode
    sign_in._write(file, sign_in.assertion())
    print(json.dumps({"token": bool(token), "file": str(file), "mode": mode, "renewed": file.read_text() != first}))
except ScriptError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("sign-in") / "home"
    serve = start_serve(Options(home, {}, operation_seconds=0.0), detached=False)
    try:
        yield Settings.load(home)
    finally:
        stop_serve(serve, home)


def job(azure: Settings, tmp_path: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {**kept, **github_job_environment(azure), "GITHUB_ACTIONS": "true", "RUNNER_TEMP": str(tmp_path)}
    environment = {name: value for name, value in {**environment, **changes}.items() if value}
    return subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )


@pytest.mark.slow
class TestSignIn:
    def test_a_job_gets_a_token_by_an_assertion_that_only_it_can_read_and_that_goes_with_it(
        self, azure: Settings, tmp_path: Path
    ) -> None:
        done = job(azure, tmp_path)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["token"]
        assert said["renewed"]
        assert stat.S_IMODE(said["mode"]) == 0o600
        assert not Path(said["file"]).exists()
        assert list(tmp_path.iterdir()) == []

    def test_without_the_permission_the_sentence_names_it(self, azure: Settings, tmp_path: Path) -> None:
        done = job(azure, tmp_path, ACTIONS_ID_TOKEN_REQUEST_URL="")
        assert done.returncode == 3
        assert "id-token: write" in done.stderr

    def test_a_refusing_github_is_one_sentence_without_the_request_token(self, azure: Settings, tmp_path: Path) -> None:
        done = job(azure, tmp_path, ACTIONS_ID_TOKEN_REQUEST_TOKEN="not-the-token")
        assert done.returncode == 4
        assert done.stderr.strip() == "GitHub gave no sign-in token (HTTP 401); run the job again."

    def test_an_expired_assertion_is_azures_refusal(self, azure: Settings, tmp_path: Path) -> None:
        expired = github_job_environment(azure, seconds=-5)["ACTIONS_ID_TOKEN_REQUEST_URL"]
        done = job(azure, tmp_path, ACTIONS_ID_TOKEN_REQUEST_URL=expired)
        assert done.returncode == 4
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
