"""Twenty mistakes that people make in workflow files, each with the check that catches it: planted here, and caught.

A check of policy.py or a linter must find nothing in the files as they are and something in the file with the fault.
What the runs of test_release.py and test_resume.py catch besides is not repeated here: they take minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.workflows import policy

BIN = Path(sys.executable).parent
LINTERS = {
    "jactionlint": ["jactionlint", "--no-online"],
    "zizmor": ["zizmor", "--offline", "--persona", "pedantic", "--no-progress"],
    "check-jsonschema": ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
}


@dataclass(frozen=True)
class Fault:
    """`old` in `file` becomes `new`; `caught_by` is a check of policy.py, or a linter and a word of what it says."""

    what: str
    file: str
    old: str
    new: str
    caught_by: str
    says: str = ""


PASS = "needs.judge.outputs.outcome == 'pass'"
FAULTS = [
    Fault(
        "a rollout that asks nobody",
        "release.yml",
        "    needs: approve\n    permissions:\n      contents: read # checkout\n      id-token",
        "    needs: judge\n    permissions:\n      contents: read # checkout\n      id-token",
        "traffic_moves_only_in_production_and_only_after_an_approval",
    ),
    Fault(
        "an approval without a verdict",
        "release.yml",
        f" && {PASS} }}}}",
        " }}",
        "traffic_moves_only_in_production_and_only_after_an_approval",
    ),
    Fault(
        "an approval that nobody has to give",
        "release.yml",
        "      name: production-approval\n",
        "      name: staging\n",
        "traffic_moves_only_in_production_and_only_after_an_approval",
    ),
    Fault(
        "traffic moved without the approval's record",
        "rollout.yml",
        " --approval out/approval.json",
        "",
        "traffic_moves_only_in_production_and_only_after_an_approval",
    ),
    Fault(
        "an inconclusive verdict that leaves the run green",
        "release.yml",
        "needs.judge.outputs.outcome != 'pass'",
        "needs.judge.outputs.outcome == 'fail'",
        "a_verdict_that_is_no_pass_turns_the_run_red",
    ),
    Fault(
        "a refusal that does not fail",
        "release.yml",
        "          exit 1\n",
        "",
        "a_verdict_that_is_no_pass_turns_the_run_red",
    ),
    Fault(
        "a gate's output misspelt by its reader",
        "evaluate.yml",
        "steps.gate.outputs.outcome }}",
        "steps.gates.outputs.outcome }}",
        "jactionlint",
        "gates",
    ),
    Fault(
        "a called workflow's output misspelt",
        "release.yml",
        "needs.train.outputs.trained == 'true'",
        "needs.train.outputs.train == 'true'",
        "jactionlint",
        "train",
    ),
    Fault(
        "a revert that only runs when all went well",
        "rollout.yml",
        "    if: ${{ failure() || cancelled() }}\n",
        "",
        "a_rollout_that_does_not_end_is_taken_back",
    ),
    Fault(
        "a revert that never runs",
        "rollout.yml",
        "    if: ${{ failure() || cancelled() }}\n",
        "    if: ${{ always() && github.event.never }}\n",
        "a_rollout_that_does_not_end_is_taken_back",
    ),
    Fault(
        "an artifact under another name",
        "rollout.yml",
        "          name: approval\n",
        "          name: approvals\n",
        "artifacts_are_made_before_they_are_read",
    ),
    Fault(
        "an artifact that may be empty",
        "evaluate.yml",
        "          if-no-files-found: error\n",
        "",
        "artifacts_are_made_before_they_are_read",
    ),
    Fault(
        "a newer release that cancels a rollout under way",
        "release.yml",
        "      group: deploy\n      cancel-in-progress: false\n",
        "      group: deploy\n      cancel-in-progress: true\n",
        "nothing_that_touches_azure_is_cancelled",
    ),
    Fault(
        "a waiting rollout that a newer one pushes out",
        "release.yml",
        "      cancel-in-progress: false\n      queue: max\n    uses: $/.github/workflows/rollout.yml",
        "      cancel-in-progress: false\n    uses: $/.github/workflows/rollout.yml",
        "nothing_that_touches_azure_is_cancelled",
    ),
    Fault(
        "a rollout that nobody is kept away from",
        "release.yml",
        "      group: deploy\n",
        "      group: rollout\n",
        "deploys_hold_one_group_on_the_callers_job",
    ),
    Fault(
        "an emergency brake behind the rollout it should stop",
        "rollback.yml",
        "  group: rollback\n",
        "  group: deploy\n",
        "the_emergency_brake_waits_for_nothing",
    ),
    Fault(
        "an emergency brake behind a reviewer",
        "environments.yaml",
        "a rollback never waits.\n    reviewers: {users: [], teams: []}\n",
        "a rollback never waits.\n    reviewers: {users: [], teams: [release-managers]}\n",
        "the_emergency_brake_waits_for_nothing",
    ),
    Fault(
        "an approval that blocks the next release while it waits",
        "release.yml",
        "    environment: # a release manager",
        "    concurrency: {group: deploy, cancel-in-progress: false, queue: max}\n    environment: # a release manager",
        "the_approval_is_outside_every_group",
    ),
    Fault(
        "a user's words inside a shell script",
        "rollback.yml",
        '--reason "$REASON"',
        '--reason "${{ inputs.reason }}"',
        "nothing_is_inlined_into_a_shell",
    ),
    Fault(
        "the same, as the security linter sees it",
        "rollback.yml",
        '--reason "$REASON"',
        '--reason "${{ inputs.reason }}"',
        "zizmor",
        "template-injection",
    ),
    Fault(
        "a job that signs in and may not",
        "train.yml",
        "      id-token: write # sign in to Azure as the environment `training`\n",
        "",
        "only_a_job_of_a_known_environment_signs_in",
    ),
    Fault(
        "a job that signs in as another environment",
        "watchdog.yml",
        "          environment: production\n",
        "          environment: training\n",
        "only_a_job_of_a_known_environment_signs_in",
    ),
    Fault(
        "a workflow that begins with every permission",
        "reap.yml",
        "permissions: {}\n",
        "",
        "permissions_start_from_nothing_and_have_reasons",
    ),
    Fault(
        "a permission without a reason",
        "resume.yml",
        "      actions: read # which commits are being worked on\n",
        "      actions: read\n",
        "permissions_start_from_nothing_and_have_reasons",
    ),
    Fault(
        "an action by its tag, which can be moved",
        "train.yml",
        "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
        "actions/checkout@v7.0.1",
        "actions_are_pinned_and_local_ones_are_our_own",
    ),
    Fault(
        "a token left in the checkout",
        "train.yml",
        "          persist-credentials: false\n",
        "          persist-credentials: true\n",
        "checkout_keeps_no_credentials",
    ),
    Fault(
        "a job that may hang for six hours",
        "rollback.yml",
        "    timeout-minutes: 30\n",
        "",
        "every_job_has_a_timeout_and_a_fixed_runner",
    ),
    Fault(
        "a schedule that runs in every fork",
        "retrain.yml",
        "    if: ${{ !github.event.repository.fork }}\n",
        "",
        "schedules_run_in_the_own_repository_only",
    ),
    Fault(
        "a stored secret",
        "train.yml",
        "${{ vars.AZURE_CLIENT_ID }}",
        "${{ secrets.AZURE_CLIENT_ID }}",
        "pull_requests_see_no_secret_and_no_azure",
    ),
    Fault(
        "a required check that does not wait for the tests",
        "pr.yml",
        "lint, unit, ",
        "lint, ",
        "the_required_check_waits_for_every_job",
    ),
    Fault(
        "failures that nobody hears of",
        "report-failure.yml",
        "Retrain, ",
        "",
        "failures_of_every_workflow_are_reported",
    ),
    Fault(
        "a release that judges another commit than it trained",
        "evaluate.yml",
        "          ref: ${{ inputs.commit }}\n",
        "",
        "what_a_release_does_is_done_at_one_commit",
    ),
    Fault(
        "a changed evaluation that starts no release",
        "release.yml",
        "eval/**, ",
        "",
        "a_change_of_anything_that_is_released_starts_a_release",
    ),
    Fault(
        "a step that does more than one thing",
        "reap.yml",
        'python -m scripts reap "$APPLY" --out out/reap.json',
        'python -m scripts reap "$APPLY" --out out/reap.json || true',
        "each_step_is_one_command_of_scripts",
    ),
    Fault(
        "a key that GitHub does not know",
        "reap.yml",
        "    runs-on: ubuntu-24.04\n",
        "    runs-on: ubuntu-24.04\n    retries: 3\n",
        "check-jsonschema",
        "retries",
    ),
]


def planted(fault: Fault) -> policy.Files:
    files = policy.read()
    text = files.texts[fault.file]
    assert fault.old in text, f"{fault.file} no longer has what this fault changes"
    return policy.Files({**files.texts, fault.file: text.replace(fault.old, fault.new)})


def names(faults: list[Fault]) -> list[str]:
    return [fault.what.replace(" ", "-") for fault in faults]


BY_POLICY = [fault for fault in FAULTS if fault.caught_by not in LINTERS]
BY_LINTER = [fault for fault in FAULTS if fault.caught_by in LINTERS]


@pytest.mark.parametrize("fault", BY_POLICY, ids=names(BY_POLICY))
def test_the_policy_catches(fault: Fault) -> None:
    assert policy.CHECKS[fault.caught_by](planted(fault))


@pytest.mark.slow
@pytest.mark.parametrize("fault", BY_LINTER, ids=names(BY_LINTER))
def test_a_linter_catches(fault: Fault, tmp_path: Path) -> None:
    shutil.copytree(policy.ROOT / ".github", tmp_path / ".github")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    path = tmp_path / ".github" / "workflows" / fault.file
    assert lint(fault.caught_by, path, tmp_path) == (0, "")
    path.write_text(planted(fault).texts[fault.file], encoding="utf-8")
    code, said = lint(fault.caught_by, path, tmp_path)
    assert code != 0
    assert fault.says in said


def lint(name: str, path: Path, folder: Path) -> tuple[int, str]:
    """(exit code, what it found); what a linter says when it found nothing is left out."""
    command = LINTERS[name]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:], str(path.relative_to(folder))],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr if done.returncode else ""


def test_every_check_catches_something() -> None:
    assert {fault.caught_by for fault in FAULTS} == {*policy.CHECKS, *LINTERS}
