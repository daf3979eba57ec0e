"""The demo against its limits: seconds in all, seconds that are neither training nor inference, peak memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench._limit import against

EVALUATED = {
    "stable": "evaluate stable",
    "stable-few-shot": "evaluate stable, few-shot",
    "candidate": "evaluate candidate",
}
LIMIT_SECONDS, LIMIT_OVERHEAD, LIMIT_GB = 420.0, 60.0, 8.0


def run() -> list[dict[str, Any]]:
    """One whole `make demo` after set-up, memory sampled once a second."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "emulator", "run", "--", "bash", "demo.sh", "promoted"],
            env={
                **os.environ,
                "DEMO_OUT": str(out),
                "DEMO_STARTED": str(time.time()),
                "EMULATOR_HOME": str(Path(folder) / "azure"),
            },
            stdin=subprocess.DEVNULL,
        )
        peak = _watch(process)
        seconds = time.monotonic() - started
        if process.returncode:
            raise SystemExit(f"✗ the demo ended with code {process.returncode}: there is nothing to measure")
        stages = overhead(out)
    for stage, (total, beside) in stages.items():
        print(f"  {stage:26} {total:6.1f} s, of it overhead {beside:5.1f} s")
    return [
        against("make demo after set-up", "s", seconds, LIMIT_SECONDS),
        against(
            "overhead beside training and inference", "s", sum(each for _, each in stages.values()), LIMIT_OVERHEAD
        ),
        against("peak memory of all processes (PSS)", "GB", peak / 1e9, LIMIT_GB),
    ]


def overhead(out: Path) -> dict[str, tuple[float, float]]:
    """Per stage: its seconds, and those in which nothing was trained, evaluated or answered."""
    metrics = json.loads((out / "training.json").read_text())["metrics"]
    rollout = json.loads((out / "rollout.json").read_text())
    work = {
        "train": metrics["train_seconds"] + metrics["eval_seconds"],
        "rollout": sum(step["sending_seconds"] for step in rollout["steps"]),
    }
    for role in ("stable", "candidate"):
        record = json.loads((out / f"deployment-{role}.json").read_text())
        work[f"deploy {role}"] = record["smoke"]["seconds"]
    for table, stage in EVALUATED.items():
        work[stage] = json.loads((out / "scores" / f"{table}.run.json").read_text())["answer_seconds"]
    lines = [json.loads(line) for line in (out / "seconds.jsonl").read_text().splitlines()]
    return {
        line["stage"]: (line["seconds"], max(0.0, line["seconds"] - work.get(line["stage"], 0.0))) for line in lines
    }


def _watch(process: "subprocess.Popen[bytes]") -> int:
    """Peak of the summed proportional set sizes of the process and everything under it, in bytes."""
    import psutil

    peak, root = 0, psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for each in [root, *_children(root)]:
            try:
                total += each.memory_full_info().pss
            except (psutil.Error, AttributeError):
                continue
        peak = max(peak, total)
        time.sleep(1)
    return peak


def _children(root: Any) -> list[Any]:
    import psutil

    try:
        return list(root.children(recursive=True))
    except psutil.Error:
        return []
