"""How long `doctor` takes of a user's time, against the local Azure ML: the process, its processor time, its imports.

Every answer of the local Azure ML is counted as our own time, so the limit is held more strictly than it was set. What
is left out is what the real one's answers take longer: the line on the requests says how many there are to wait for.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulator.command import command_env
from emulator.context import Settings
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from tests.bench._limit import against

RUNS, LIMIT_SECONDS = 5, 15.0
CONFIG = "scripts/environments/demo.yaml"
# The same run, which adds up the processor time of its outermost imports, thread by thread.
TRACED = """
import builtins, sys, threading, time
spent, here, real = [], threading.local(), builtins.__import__
def timed(*arguments, **named):
    if getattr(here, "inside", False):
        return real(*arguments, **named)
    here.inside, started = True, time.thread_time()
    try:
        return real(*arguments, **named)
    finally:
        spent.append(time.thread_time() - started)
        here.inside = False
builtins.__import__ = timed
from scripts.__main__ import main
main()
open(sys.argv[-1] + ".imports", "w").write(str(sum(spent) / time.process_time()))
"""


def run() -> list[dict[str, Any]]:
    """Every check but GitHub's, on an environment in which everything is as it should be; medians."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "azure"
        serve = start_serve(Options(home, {}, operation_seconds=0.0), detached=False)
        try:
            given = {name: value for name, value in command_env(Settings.load(home)).items() if name != MARK}
            env = {**os.environ, **given, "MLOPS_CONFIG": CONFIG, "GITHUB_REPOSITORY": "acme/phi-train"}
            out = Path(folder) / "record.json"
            _scripts(env, "provision", "--repository", "acme/phi-train", "--out", str(out))
            doctor = ("doctor", "--no-github", "--out", str(out))
            _scripts(env, *doctor)
            asked = _asked(home)
            took = [_seconds(lambda: _scripts(env, *doctor)) for _ in range(RUNS)]
            record = json.loads(out.read_text())
            asked = (_asked(home) - asked) // RUNS
            _python(env, "-c", TRACED, *doctor)
            share = float(Path(f"{out}.imports").read_text())
        finally:
            stop_serve(serve, home)
    ok = sum(each["outcome"] == "ok" for each in record["findings"])
    assert ok == len(record["findings"]) - 1, "all but GitHub's side is checked and in order"
    clock, processor = (statistics.median(each) for each in zip(*took, strict=True))
    print(f"  {asked} requests to Azure; {share:.0%} of the processor time is imports")
    rows = [
        against("doctor by the clock", "s", clock, LIMIT_SECONDS),
        against("doctor, processor time", "s", processor, LIMIT_SECONDS),
        against("of this, imports", "s", share * processor, LIMIT_SECONDS),
    ]
    return [{**row, "runs": RUNS} for row in rows]


def _seconds(run: Callable[[], None]) -> tuple[float, float]:
    """By the clock, and of the processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run()
    clock, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _scripts(env: dict[str, str], *arguments: str) -> None:
    _python(env, "-m", "scripts", *arguments)


def _python(env: dict[str, str], *arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"✗ {arguments[-1]} ended with code {done.returncode}: {done.stdout}{done.stderr[-500:]}")


def _asked(home: Path) -> int:
    return len((home / "requests.jsonl").read_text(encoding="utf-8").splitlines())
