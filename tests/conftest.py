"""Before anything else: an environment that is nobody's, and a private home for promptflow.

Left alone, promptflow's first import would set up telemetry and a service.
"""

import gc
import os
import sys
from pathlib import Path

import absl.logging
import hypothesis
import pytest

# Tests say themselves when they play a GitHub job; where they run is told to people alone, in the job's summary.
SUMMARY = os.environ.get("GITHUB_STEP_SUMMARY")
for name in [name for name in os.environ if name.startswith(("GITHUB_", "RUNNER_", "ACTIONS_", "AZURE_", "MLOPS_"))]:
    del os.environ[name]
# A subscription that has been used before. Tests of `provision` take a fresh one, in which nothing is registered.
os.environ["EMULATOR_PROVIDERS"] = "registered"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # for tests that take onnxruntime by themselves
# Beside other workers of pytest-xdist the threads of a matrix library find no free core, and wait in loops: a training
# job of six seconds of processor time then takes nineteen.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# By itself it fails an example that takes over 200 ms, which beside other workers any may.
hypothesis.settings.register_profile("ours", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("ours")

from eval.promptflow_home import HOME, prepare  # noqa: E402
from eval.startup import let_imports_be  # noqa: E402

# promptflow-evals brings this logger. Its handler keeps the stderr that it finds, and an import of MLflow closes that:
# mid-test that is pytest's own file.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

os.environ.pop(HOME, None)  # one for each process: a worker of pytest-xdist would share the first one's
prepare()
let_imports_be()


# What takes longest begins first, so that the workers end together (`--no-loadscope-reorder` keeps the order).
# test_release.py makes what test_resume.py and others begin with and would wait for, so they come later.
FIRST = (
    "workflows/test_release.py",
    "emulator/test_rollout_faults.py",
    "workflows/test_pr.py",
    "workflows/test_resume.py",
    "scripts/routes/test_registry_azure.py",
    "workflows/test_serverless.py",
    "emulator/test_rollout_lives.py",
    "workflows/test_operations.py",
    "workflows/test_first.py",
    "scripts/test_evaluate.py",
)
PLACES = {Path(__file__).parent / name: place for place, name in enumerate(FIRST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: PLACES.get(item.path, len(PLACES)))


def pytest_collection_finish() -> None:
    """What was imported to collect stays: pytest itself goes through all objects ten times when it ends."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """On GitHub: what failed, where a contributor looks first. Workers of pytest-xdist have no terminal."""
    if not SUMMARY:
        return
    counts = {kind: len(terminalreporter.getreports(kind)) for kind in ("passed", "failed", "error", "skipped")}
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "no test ran"
    broken = [report.nodeid for kind in ("failed", "error") for report in terminalreporter.getreports(kind)]
    lines = [f"**{'✗' if exitstatus else '✓'} Tests: {said}**\n", *(f"- `{node}`" for node in broken[:50])]
    with open(SUMMARY, "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write("\n".join(lines) + "\n")
