"""The evaluation against a server that answers after a fixed time: what it adds to the model's own time, and how fast
it asks beside promptflow's own batch run. The 200 held-out prompts, 16 in flight, each way in a process of its own.

Overhead is everything from the start of `python -m eval.run` to its end that the same requests alone do not take:
Python, imports, the flow, keeping, scoring, tables. It is seconds, about the same for a model of any speed; we take one
that needs a second for an answer.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROMPTS = ROOT / "data" / "heldout.jsonl"
FAST, USUAL = 0.05, 1.0  # seconds an answer takes
ROUNDS = 3
LIMIT = 0.10
OTHERS = {
    "python": "the same flow without prompt flow, --engine python",
    "default": "promptflow's batch run, default settings",
    "async": "promptflow's batch run, batch_use_async",
    "async-16": "promptflow's batch run, batch_use_async, 16 workers",
}
SIGNED_IN = """
import azure.identity
azure.identity.DefaultAzureCredential = lambda **_: None
azure.identity.get_bearer_token_provider = lambda *_: (lambda: "a-token")
"""


def run() -> list[dict[str, Any]]:
    return [*throughput(), overhead()]


def throughput() -> list[dict[str, Any]]:
    """Prompts a second of each way; the median of the rounds."""
    ways: dict[str, list[float]] = {"ours": [], **{how: [] for how in OTHERS}}
    with answering(FAST) as uri:
        for _ in range(ROUNDS):
            for how, rates in ways.items():
                rates.append(200 / _asked(how, uri))
    ours = statistics.median(ways["ours"])
    return [
        _row("prompts a second, 50 ms an answer", "1/s", ours, statistics.median(ways[how]), what)
        for how, what in OTHERS.items()
    ]


def overhead() -> dict[str, Any]:
    """Of a whole evaluation, the share beside the model's time; the median of the rounds."""
    shares = []
    with answering(USUAL) as uri:
        for _ in range(ROUNDS):
            model = _asked("bare", uri)
            shares.append((_evaluated(uri) - model) / model)
    what = "the limit we set ourselves"
    return _row("evaluation beside the model's time, 1 s an answer", "of it", statistics.median(shares), LIMIT, what)


def _row(metric: str, unit: str, ours: float, other: float, what: str) -> dict[str, Any]:
    return {
        "metric": metric,
        "unit": unit,
        "ours": round(ours, 3),
        "other": round(other, 3),
        "other_is": what,
        "ratio": round(ours / other, 3),
        "runs": ROUNDS,
    }


@contextlib.contextmanager
def answering(seconds: float) -> Iterator[str]:
    """The URI of a server that answers after so long."""
    argv = [sys.executable, "-m", "tests.bench._answering", str(seconds)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/score"
        finally:
            server.kill()


def _asked(how: str, uri: str) -> float:
    with _signed_in() as (home, environment):
        argv = [sys.executable, "-m", "tests.bench._ask", how, uri, str(PROMPTS)]
        options: dict[str, Any] = {"env": environment | {"PF_HOME_DIRECTORY": str(home)}, "cwd": ROOT}
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300, **options)
    if done.returncode:
        raise SystemExit(f"✗ {how}: {done.stderr.strip()[-500:]}")
    return float(done.stdout.split()[-1])


def _evaluated(uri: str) -> float:
    """Seconds of the whole command."""
    with _signed_in() as (folder, environment):
        argv = [sys.executable, "-m", "eval.run", "--scoring-uri", uri, "--out", str(folder / "scores.jsonl")]
        started = time.monotonic()
        subprocess.run(argv, cwd=ROOT, env=environment, check=True, capture_output=True)
        return time.monotonic() - started


@contextlib.contextmanager
def _signed_in() -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder, and an environment in which a process and its children need not sign in: that is not measured."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(SIGNED_IN)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PF_")}
        yield Path(folder), environment | {"PYTHONPATH": folder}
