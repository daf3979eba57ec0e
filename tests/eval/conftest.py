"""Score tables made to measure, for the gate's tests; a local endpoint and the command, for the runner's."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval import promptflow_home
from eval.policy import MetricPolicy, Policy
from eval.scores import ScoreRow
from tests.eval.endpoint import SIGNED_IN, Stub, prompts_file

promptflow_home.prepare()  # before any test module imports promptflow

Make = Callable[..., list[ScoreRow]]


def rows_of(values: Sequence[float], metric: str = "exact_match", cluster: int = 1, **fields: Any) -> list[ScoreRow]:
    """One row per value; `cluster` prompts share a cluster."""
    return [
        ScoreRow.model_validate(
            {
                "prompt_id": f"p{i:05}",
                "repeat": 0,
                "cluster_id": f"c{i // cluster:05}",
                "slices": {"priority": "high" if i % 2 else "low"},
                "status": "ok",
                "metrics": {metric: float(value)},
                "latency_ms": 100.0 + i % 7,
                "tokens": 50,
                **fields,
            }
        )
        for i, value in enumerate(values)
    ]


@pytest.fixture
def make() -> Make:
    return rows_of


@pytest.fixture
def policy() -> Policy:
    """exact_match alone, margin five points, no floor."""
    return Policy(metrics=[MetricPolicy(name="exact_match", kind="binary", margin=0.05, min_drop=0.02)])


@pytest.fixture
def stub(monkeypatch):
    import azure.identity

    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", lambda **_: None)
    monkeypatch.setattr(azure.identity, "get_bearer_token_provider", lambda *_: lambda: "a-token")
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _seconds: None))
    server = Stub()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def command(tmp_path, stub):
    """`python -m eval.run` in a process of its own, with a home that can be looked at afterwards."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SIGNED_IN)
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "HOME": str(home), "TMPDIR": str(tmp_path)}
    environment = {name: value for name, value in environment.items() if not name.startswith("PF_")}
    prompts = prompts_file(tmp_path / "p.jsonl", 30)
    arguments = ["--prompts", prompts, "--scoring-uri", stub.uri, "--out", tmp_path / "out" / "s.jsonl"]
    return SimpleNamespace(
        argv=[sys.executable, "-m", "eval.run", *map(str, arguments)],
        options={"cwd": Path(__file__).parents[2], "env": environment, "text": True},
        home=home,
        site=tmp_path / "site",
    )
