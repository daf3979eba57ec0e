"""`summary.json`: the figures of a run that a check reads without parsing the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.records import write_text
from scripts.report.facts import before_after
from scripts.report.load import Records, load
from scripts.report.story import final_traffic


def summary(records: Path, scenario: str) -> dict[str, Any]:
    """Write `records/summary.json` and return it.

    `seconds` by stage (a stage that ran twice has the sum), exact match of both sides (null
    where it was not judged or scored), the verdict's outcome or null, the weights in force at the end, and every weight
    map that the rollout wrote, in order (none where there was no rollout).
    """
    figures = summarise(load(records), scenario)
    write_text(records / "summary.json", json.dumps(figures, indent=2, allow_nan=False) + "\n")
    return figures


def summarise(records: Records, scenario: str) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    for stage in records.seconds:
        seconds[stage.stage] = round(seconds.get(stage.stage, 0.0) + stage.seconds, 3)
    baseline, candidate = before_after(records, "exact_match")
    return {
        "scenario": scenario,
        "seconds": seconds,
        "exact_match": {"baseline": baseline, "candidate": candidate},
        "verdict": records.verdict.outcome if records.verdict else None,
        "traffic": final_traffic(records),
        "writes": [dict(write.traffic) for write in records.rollout.writes] if records.rollout else [],
    }
