"""How long a command takes to start: its packages left alone by the collector, and with Python's own settings."""

import statistics
import subprocess
import sys
import time
from typing import Any

RUNS = 7
# What the longest-starting commands import before they do anything.
IMPORTS = {
    "a command that asks Azure": "from azure.ai.ml import MLClient",
    "evaluate": "from promptflow.executor import FlowExecutor; from promptflow.evals.evaluate import evaluate",
    "the training job": "import torch; from trl import SFTTrainer",
}
BEFORE = "from eval.startup import let_imports_be"


def run() -> list[dict[str, Any]]:
    """Seconds from start to end of the process; the two are run by turns."""
    rows = []
    for name, imports in IMPORTS.items():
        ours, other = [], []
        for _ in range(RUNS):
            ours.append(_seconds(f"{BEFORE}; let_imports_be(); {imports}"))
            other.append(_seconds(f"{BEFORE}; {imports}"))
        mine, theirs = statistics.median(ours), statistics.median(other)
        rows.append(
            {
                "metric": f"start and end of {name}",
                "unit": "s",
                "ours": round(mine, 3),
                "other": round(theirs, 3),
                "other_is": "the same imports with Python's own settings",
                "ratio": round(mine / theirs, 3),
                "runs": RUNS,
            }
        )
    return rows


def _seconds(code: str) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.monotonic() - started
