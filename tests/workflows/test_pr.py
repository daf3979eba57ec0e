"""pr.yml, run for real: what runs for which change, what makes the one required check red, and that it needs no secret.

The heavy commands are cut down in the copy: few files are linted and tested, and the demo draws the page of a train
that was run before. How they are called, and what depends on them, is as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.workflows.act import Act, Result
from tests.workflows.repository import Repository, copy

pytestmark = pytest.mark.slow

DEMO = """#!/usr/bin/env bash
mkdir -p out/demo
cp -r tests/scripts/fixtures/report/promoted/. out/demo/
.venv/bin/python -m scripts report --records out/demo
"""
ALWAYS = {"plan": "success", "lint": "success", "unit": "success"}
TESTED = {"tests/test_it.py": "def test_it() -> None:\n    pass\n"}
LINTED = ["docs/*.py"]
EXAMPLE = {"docs/example.py": "print(1)\n"}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    keep = ("tests/scripts/fixtures/report/promoted/*", "tests/conftest.py")
    made = copy(tmp_path / "repository", {"demo.sh": DEMO, **TESTED, **EXAMPLE}, keep)
    settings = made.read("pyproject.toml")
    of_all = 'files = ["scripts", "training", "convert", "flow", "serving", "eval", "data", "emulator"]'
    assert of_all in settings
    few = settings.replace(of_all, 'files = ["docs"]').replace("[tool.ruff]\n", f"[tool.ruff]\ninclude = {LINTED}\n")
    made.commit({"pyproject.toml": few})
    return made


def pull_request(act: Act, changed: dict[str, str | None], **options: Any) -> Result:
    """Commit a change on a fork's branch and run the checks for it."""
    base = act.repository.git("rev-parse", "HEAD")
    head = act.repository.commit(changed)
    theirs = {"ref": "topic", "sha": head, "repo": {"fork": True, "full_name": "someone/fork"}}
    about = {"number": 7, "base": {"ref": "main", "sha": base}, "head": theirs}
    return act.run("pull_request", "pr.yml", payload={"number": 7, "pull_request": about}, **options)


class TestWhatRuns:
    def test_a_change_of_words_skips_what_is_slow(self, act: Act) -> None:
        done = pull_request(act, {"docs/rollback.md": "# Other words\n"})
        assert done.results == {**ALWAYS, "ready": "success"}, done
        assert done.code == 0
        assert done.outputs["plan", "changes", "data"] == "false"
        assert done.outputs["plan", "changes", "demo"] == "false"
        assert "no slow check is needed" in done.summaries["plan"]
        assert "✓ Tests: 1 passed" in done.summaries["unit"]
        assert "| demo | skipped |" in done.summaries["ready"]
        assert not done.artifacts.exists()

    def test_a_change_of_data_checks_it_and_runs_the_train(self, act: Act) -> None:
        rows = act.repository.read("data/tickets.jsonl").splitlines(keepends=True)
        done = pull_request(act, {"data/tickets.jsonl": "".join(rows[:-1])})
        assert done.results == {**ALWAYS, "data": "success", "demo": "success", "ready": "success"}, done
        assert "changed: data/tickets.jsonl" in done.summaries["plan"]
        assert "Data tickets:" in done.summaries["data"]
        assert "Verdict: pass" in done.summaries["demo"]
        assert (done.artifacts / "demo/report/index.html").is_file()
        assert (done.artifacts / "demo/verdict.json").is_file()

    def test_an_unknown_base_calls_for_everything(self, act: Act) -> None:
        done = act.run("merge_group", "pr.yml", payload={"merge_group": {"base_sha": "0" * 40}}, job="plan")
        assert done.results == {"plan": "success"}, done
        assert done.outputs["plan", "changes", "data"] == done.outputs["plan", "changes", "demo"] == "true"
        assert "it is not known what changed" in done.summaries["plan"]

    def test_a_merge_queue_compares_with_its_base(self, act: Act) -> None:
        base = act.repository.git("rev-parse", "HEAD")
        act.repository.commit({"docs/rollback.md": "# Other words\n"})
        done = act.run("merge_group", "pr.yml", payload={"merge_group": {"base_sha": base}})
        assert done.results == {**ALWAYS, "ready": "success"}, done


class TestWhatMakesItRed:
    def test_code_that_does_not_lint_and_a_test_that_fails(self, act: Act) -> None:
        failing = "def test_it() -> None:\n    assert not 1\n"
        done = pull_request(act, {"docs/example.py": "import os\n", "tests/test_it.py": failing})
        red = {"lint": "failure", "unit": "failure", "ready": "failure"}
        assert done.results == {**ALWAYS, **red}, done
        assert done.code == 1
        assert "| lint | failure | `make format lint` |" in done.summaries["ready"]
        assert "| unit | failure | `make test-fast` |" in done.summaries["ready"]
        assert "- `tests/test_it.py::test_it`" in done.summaries["unit"]
        assert any("`os` imported but unused" in error for error in done.errors), done.errors

    def test_data_that_breaks_a_rule_and_a_train_that_fails(self, act: Act) -> None:
        rows = act.repository.read("data/tickets.jsonl")
        twice = rows + rows.splitlines()[0] + "\n"
        done = pull_request(act, {"data/tickets.jsonl": twice, "demo.sh": DEMO + "exit 1\n"})
        red = {"data": "failure", "demo": "failure", "ready": "failure"}
        assert done.results == {**ALWAYS, **red}, done
        assert any("duplicate_id: 1 row(s)" in error for error in done.errors)
        assert "Verdict: pass" in done.summaries["demo"], "the page of a failed train is what people need"
        assert (done.artifacts / "demo/report/index.html").is_file()

    def test_a_workflow_that_a_linter_refuses(self, act: Act) -> None:
        text = act.repository.read(".github/workflows/pr.yml")
        changed = {
            ".github/workflows/other.yml": text.replace("Pull request", "Other").replace("timeout-minutes", "tim")
        }
        done = pull_request(act, changed, job="lint")
        assert done.results == {"lint": "failure"}, done

    def test_a_plan_that_fails_is_not_taken_for_nothing_to_do(self, act: Act) -> None:
        done = pull_request(act, {".github/changes.yaml": "parts: {}\n"})
        assert done.results == {**ALWAYS, "plan": "failure", "ready": "failure"}, done
        assert done.errors[0] == ".github/changes.yaml: everything: Field required."

    def test_a_check_that_is_skipped_although_the_plan_asked_for_it(self, act: Act) -> None:
        text = act.repository.read(".github/workflows/pr.yml")
        right = "if: ${{ needs.plan.outputs.demo == 'true' }}"
        assert right in text
        wrong = text.replace(right, "if: ${{ needs.plan.outputs.demo == 'yes' }}")
        done = pull_request(act, {".github/workflows/pr.yml": wrong})
        assert done.results == {**ALWAYS, "data": "success", "ready": "failure"}, done
        assert "| demo | skipped |" in done.summaries["ready"]
