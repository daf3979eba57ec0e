"""The gate: how often it errs beside common rules on the same simulated releases, and what deciding costs.

Writes the tables and the figure of docs/gate.md. Seeds are fixed: if the page changes, the gate does.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench import _gate_pages, _gate_study
from tests.bench._gate_rules import RULES
from tests.bench._limit import against

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "gate.md"
FIGURE = ROOT / "docs" / "images" / "gate-power.svg"
LIMIT_SECONDS, LIMIT_MB = 5.0, 500.0
SHOWN = 200  # prompts, for the rows of this benchmark; the page has every size


def run() -> list[dict[str, Any]]:
    deltas = {delta for _, delta, _ in _gate_study.QUESTIONS}
    alone = {delta: _gate_study.independent(delta) for delta in deltas}
    groups = {delta: _gate_study.clustered(delta) for delta in deltas}
    again = list(_gate_study.until_green())
    same = _gate_pages.update(DOCS, _gate_pages.tables(alone, groups, again))
    same &= _gate_pages.draw(FIGURE)
    print(f"  {'docs/gate.md says what was measured' if same else '✗ docs/gate.md said something else: written anew'}")
    rows = []
    for question, delta, kind in _gate_study.QUESTIONS:
        ours, *others = (alone[delta][name][SHOWN][kind == "fail"] for name in RULES)
        for name, other in zip(list(RULES)[1:], others, strict=True):
            rows.append(_row(f"{question}, {SHOWN} prompts", ours, other, name))
    return rows + [row for size in (1_000, 10_000) for row in cost(size)]


def _row(metric: str, ours: float, other: float, other_is: str) -> dict[str, Any]:
    ratio = round(ours / other, 3) if other else 0.0
    values = {"ours": round(ours, 4), "other": round(other, 4), "other_is": other_is, "ratio": ratio}
    return {"metric": metric, "unit": "share", **values, "runs": _gate_study.RUNS}


def cost(rows: int) -> list[dict[str, Any]]:
    """Deciding so many rows with 8 metrics on 12 slices, in a process of its own, best of three."""
    command = [sys.executable, "-m", "tests.bench._gate_cost", str(rows)]
    answers = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
        for _ in range(3)
    ]
    what = f"deciding {rows} rows × 8 metrics × 12 slices"
    return [
        against(what, "s", min(answer["seconds"] for answer in answers), LIMIT_SECONDS),
        against(f"{what}, peak memory", "MB", max(answer["mb"] for answer in answers), LIMIT_MB),
    ]
