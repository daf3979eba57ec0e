"""The harness itself: what it says a run came to is what happened, and a killed run is really dead."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.workflows.act import Act
from tests.workflows.isolation import Isolation
from tests.workflows.repository import Repository

pytestmark = pytest.mark.slow

UPLOAD = "actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a"
DOWNLOAD = "actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c"
HEAD = "on: [push, workflow_dispatch]\njobs:\n"
MAIN = """
name: Main
on:
  workflow_dispatch:
    inputs:
      word: {type: string, required: true}
      loud: {type: boolean, default: false}
jobs:
  first:
    name: The first
    runs-on: ubuntu-24.04
    outputs:
      word: ${{ steps.say.outputs.word }}
    steps:
      - id: say
        run: |
          echo "word=$WORD$LOUD" >> "$GITHUB_OUTPUT"
          echo "**$VAR**" >> "$GITHUB_STEP_SUMMARY"
          echo "::error::not good"
          gh issue list --label bug > found
          gh issue create --body-file - <<< "$(cat found)"
        env:
          WORD: ${{ inputs.word }}
          LOUD: ${{ inputs.loud && '!' || '?' }}
          VAR: ${{ vars.SOME }}
  many:
    needs: first
    strategy:
      matrix:
        size: [small, large]
    runs-on: ubuntu-24.04
    steps:
      - run: test "$SIZE" = small
        env:
          SIZE: ${{ matrix.size }}
  called:
    name: Calls another
    needs: first
    uses: ./.github/workflows/other.yml
    with:
      word: ${{ needs.first.outputs.word }}
  never:
    needs: first
    if: ${{ needs.first.outputs.word == 'nothing' }}
    runs-on: ubuntu-24.04
    steps:
      - run: exit 1
"""
OTHER = """
name: Other
on:
  workflow_call:
    inputs:
      word: {type: string}
jobs:
  inner:
    name: The inner
    runs-on: ubuntu-24.04
    steps:
      - id: again
        run: echo "word=$WORD again" >> "$GITHUB_OUTPUT"
        env:
          WORD: ${{ inputs.word }}
"""
LONG = f"""
{HEAD}
  work:
    runs-on: ubuntu-24.04
    steps:
      - id: before
        run: touch "$STATE/before"
      - id: during
        run: |
          setsid sleep 98765 &
          sleep 98765 & wait
      - id: after
        run: touch "$STATE/after"
"""
KEEP = f"""
{HEAD}
  keep:
    runs-on: ubuntu-24.04
    steps:
      - run: mkdir -p out/deep .hidden out/.secret; touch out/a.json out/deep/b.json out/.secret/c.json
      - uses: {UPLOAD}
        with: {{name: one, path: out, if-no-files-found: error, retention-days: 7}}
      - uses: {UPLOAD}
        with: {{name: two, path: "out/a.json\\nout/deep/b.json"}}
      - id: twice
        continue-on-error: true
        uses: {UPLOAD}
        with: {{name: one, path: out}}
      - id: nothing
        continue-on-error: true
        uses: {UPLOAD}
        with: {{name: three, path: nowhere/, if-no-files-found: error}}
"""
FETCH = f"""
{HEAD}
  fetch:
    runs-on: ubuntu-24.04
    steps:
      - uses: {DOWNLOAD}
        with: {{name: two, path: got}}
      - id: got
        run: echo "files=$(find got -type f | sort | xargs)" >> "$GITHUB_OUTPUT"
      - id: other
        continue-on-error: true
        uses: {DOWNLOAD}
        with: {{name: two, run-id: "1"}}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Nothing but these workflows."""
    path = tmp_path / "repository"
    path.mkdir()
    made = Repository(path)
    made.begin()
    files = {"main": MAIN, "other": OTHER, "long": LONG, "keep": KEEP, "fetch": FETCH}
    made.commit({f".github/workflows/{name}.yml": text for name, text in files.items()})
    return made


class TestWhatARunCameTo:
    def test_all_of_it(self, act: Act) -> None:
        answers = {"issue list": "#7", "issue": "?"}
        given = {"word": "yes", "loud": True}
        done = act.run("workflow_dispatch", "main.yml", inputs=given, vars={"SOME": "bold"}, gh=answers)
        assert done.results.pop("many (small)")  # either: act has one result for all of a matrix
        assert done.results == {"first": "success", "many (large)": "failure", "called/inner": "success"}, done
        assert done.code == 1
        assert done.outputs["first", "say", "word"] == "yes!"
        assert done.outputs["called/inner", "again", "word"] == "yes! again"
        assert done.summaries == {"first": "**bold**\n"}
        assert done.errors == ["not good"]
        assert done.steps["many (small)", "0"] == "success"
        assert done.steps["many (large)", "0"] == "failure"
        assert done.gh == [
            ["issue", "list", "--label", "bug"],
            ["issue", "create", "--body-file", "-", "#7\n"],
        ]

    def test_artifacts_have_the_rules_of_the_real_ones(self, act: Act) -> None:
        done = act.run("push", "keep.yml")
        assert done.results == {"keep": "success"}, done
        kept = sorted(str(path.relative_to(done.artifacts)) for path in done.artifacts.rglob("*") if path.is_file())
        assert kept == ["one/a.json", "one/deep/b.json", "two/a.json", "two/deep/b.json"]
        assert done.steps["keep", "twice"] == done.steps["keep", "nothing"] == "failure"
        assert any("409" in error for error in done.errors)
        about = [json.loads(line) for line in (done.artifacts.parent / "about.jsonl").read_text().splitlines()]
        assert [(each["name"], each["retention_days"]) for each in about] == [("one", "7"), ("two", "")]

        again = act.run("push", "fetch.yml", run_id=done.run_id, attempt=2)
        assert again.results == {"fetch": "success"}, again
        assert again.outputs["fetch", "got", "files"] == "got/a.json got/deep/b.json"
        assert again.steps["fetch", "other"] == "failure", "another run's artifact without a token"

        new = act.run("push", "fetch.yml")
        assert new.results == {"fetch": "failure"}, "a new run has no artifact of an older one"


class TestAKilledRunner:
    @pytest.mark.parametrize("kill", ["work/during", "after:work/before"])
    def test_everything_it_started_dies_and_nothing_follows(self, act: Act, tmp_path: Path, kill: str) -> None:
        done = act.run("push", "long.yml", kill=kill, env={"STATE": str(tmp_path)})
        assert done.killed
        assert done.code == -9
        assert done.results == {}
        assert (tmp_path / "before").exists()
        assert not (tmp_path / "after").exists()
        assert not [each for each in psutil.process_iter(["cmdline"]) if "98765" in (each.info["cmdline"] or [])]

    def test_before_a_step_means_that_it_did_nothing(self, act: Act, tmp_path: Path) -> None:
        done = act.run("push", "long.yml", kill=lambda entry: "jobID" in entry, env={"STATE": str(tmp_path)})
        assert done.killed
        assert not (tmp_path / "before").exists()

    def test_one_that_hangs_fails_the_test(self, act: Act, tmp_path: Path) -> None:
        with pytest.raises(TimeoutError):
            act.run("push", "long.yml", env={"STATE": str(tmp_path)}, seconds=2)


def test_there_is_no_network(isolation: Isolation) -> None:
    if isolation.holder is None:
        pytest.skip("this machine allows no namespaces")
    dial = "import socket; socket.create_connection(('192.0.2.1', 443), 2)"
    done = subprocess.run(isolation.argv(["python3", "-c", dial]), capture_output=True, text=True, check=False)
    assert "Network is unreachable" in done.stderr
