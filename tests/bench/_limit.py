"""A row of a benchmark whose other side is a limit, not another program."""

from typing import Any


def against(metric: str, unit: str, ours: float, limit: float) -> dict[str, Any]:
    return {
        "metric": metric,
        "unit": unit,
        "ours": round(ours, 2),
        "other": limit,
        "other_is": "the limit we set ourselves",
        "ratio": round(ours / limit, 3),
        "runs": 1,
    }
