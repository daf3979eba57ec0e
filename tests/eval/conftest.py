"""Score tables made to measure, for the gate's tests."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from eval import promptflow_home
from eval.policy import MetricPolicy, Policy
from eval.scores import ScoreRow

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
