"""The setup action: it installs what the cache did not have and nothing else; and what `light` is enough for."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflows.act import Act
from tests.workflows.repository import ROOT, Repository, copy

CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1"
USE = f"""
on: push
jobs:
  all:
    runs-on: ubuntu-24.04
    steps: &steps
      - uses: {CHECKOUT}
      - uses: ./.github/actions/setup
        with:
          for: ${{{{ github.job }}}}
      - id: done
        run: |
          echo "installed=$(cat installed 2>/dev/null | xargs)" >> "$GITHUB_OUTPUT"
          echo "python=$(command -v python)" >> "$GITHUB_OUTPUT"
  light:
    runs-on: ubuntu-24.04
    steps: *steps
"""
# What is installed is a note, not gigabytes; the rest of the Makefile's rules are as they are.
INSTALLS = re.compile(r"(?m)^(\.venv/\.ready|\.venv/\.light|\$\(BASE_MODEL\)/config\.json):(.*)\n(\t.*\n)+")
NOTE = (
    "\\1:\\2\n\t@echo -n '$@ ' >> installed; mkdir -p .venv/bin $(BASE_MODEL); ln -sf $(PYTHON) .venv/bin/; touch $@\n"
)
# Packages that only the full environment has.
HEAVY = ("azure", "torch", "transformers", "mlflow", "promptflow", "scipy", "pyarrow", "jinja2", "matplotlib")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    makefile, rules = INSTALLS.subn(NOTE, (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert rules == 3
    return copy(tmp_path / "repository", {"Makefile": makefile, ".github/workflows/use.yml": USE})


@pytest.mark.slow
class TestSetup:
    def test_without_a_cache_it_installs(self, act: Act) -> None:
        done = act.run("push", "use.yml", env={"STUB_CACHE": "miss"})
        assert done.results == {"all": "success", "light": "success"}, done
        assert done.outputs["all", "done", "installed"] == ".venv/.ready .cache/smollm2-135m-instruct/config.json"
        assert done.outputs["light", "done", "installed"] == ".venv/.light"

    def test_with_one_it_installs_nothing_and_its_python_comes_first(self, act: Act) -> None:
        done = act.run("push", "use.yml")
        assert done.results == {"all": "success", "light": "success"}, done
        for job in done.results:
            assert done.outputs[job, "done", "installed"] == ""
            assert done.outputs[job, "done", "python"].endswith("/.venv/bin/python")


def light_commands() -> set[str]:
    """Every command line of `scripts` in the jobs that are set up with `for: light`."""
    found: set[str] = set()
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            steps = job.get("steps", [])
            if any((step.get("with") or {}).get("for") == "light" for step in steps):
                found |= {line for step in steps for line in re.findall(r"python -m scripts (.*)", step.get("run", ""))}
    return found


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository without any record in it."""
    return copy(tmp_path_factory.mktemp("light") / "repository").path


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(light_commands()))
def test_light_suffices_for_what_light_jobs_run(command: str, anywhere: Path, tmp_path: Path) -> None:
    """It does what it can without records; a missing package would show as a traceback."""
    arguments = shlex.split(re.sub(r"\$\w+", "x", command))
    without = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r})); sys.argv = ['scripts', *{arguments!r}]"
    run = f"{without}; from scripts.__main__ import main; sys.exit(main())"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(anywhere)}
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=anywhere, capture_output=True, text=True, check=False, env=environment
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Usage" not in done.stderr, done.stderr
    assert "--help" not in done.stderr, done.stderr
