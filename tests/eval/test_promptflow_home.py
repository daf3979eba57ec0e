"""Prompt flow's home: silent by default, the owner's word kept, gone at the end."""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PREPARE = "from eval.promptflow_home import prepare; print(prepare())"


def prepared(home: Path | None) -> Path:
    """Prepare in a process of its own, as the home is a process's; returns where it is or was."""
    environment = {"PF_HOME_DIRECTORY": str(home)} if home else {}
    run = subprocess.run([sys.executable, "-c", PREPARE], cwd=ROOT, env=environment, capture_output=True, check=True)
    return Path(run.stdout.decode().strip())


def settings(home: Path) -> dict:
    return yaml.safe_load((home / "pf.yaml").read_text())


def test_a_given_home_is_used_and_kept(tmp_path):
    assert prepared(tmp_path / "home") == tmp_path / "home"
    said = settings(tmp_path / "home")
    assert (said["telemetry"], said["trace"]) == ({"enabled": False}, {"destination": "none"})
    assert not said["cli"]["installation_id"].strip("0-")
    assert (tmp_path / "home" / "pf_version_check.json").exists()


def test_a_made_home_goes_with_the_process():
    assert not prepared(None).exists()


def test_what_promptflow_wrote_by_itself_is_completed_and_the_owners_word_kept(tmp_path):
    (tmp_path / "pf.yaml").write_text("cli: {installation_id: x}\n")
    prepared(tmp_path)
    assert settings(tmp_path)["telemetry"] == {"enabled": False} and settings(tmp_path)["cli"] == {
        "installation_id": "x"
    }
    (tmp_path / "pf.yaml").write_text("trace: {destination: local}\n")
    prepared(tmp_path)
    assert settings(tmp_path)["trace"] == {"destination": "local"}
