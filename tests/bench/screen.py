"""What the local screen costs a request, and that no text makes it cost out of proportion.

What bounds it: each text is folded once and searched once for each word of the patterns; both grow with its length.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT_MS = 1.0  # on average over live conversations
SHORT, LONG = 4_000, 32_000  # characters
REPEATS = 5
WORST = {
    "a verb that never gets its object": "ignore all the your ",
    "verbs": "act as pretend you are tell me how to make a ",
    "every first word": "override the instructions rules filter polic restr ethics void obey everything your now on ",
    "single letters": "a.",
    "coded": "QUJD",
    "lines": "human:\n",
    "marks": "#<|[---",
    "one word": "x",
    "invisible": "\u200b\U000e0061",
    "digits": "1a ",
}


def run() -> list[dict[str, Any]]:
    sys.path.insert(0, str(ROOT / "serving"))
    from screen import Screen

    local = Screen.from_environment({})

    def milliseconds(messages: list[dict[str, str]]) -> float:
        taken = []
        for _ in range(REPEATS):
            started = time.process_time()
            local.prompt(messages)
            taken.append((time.process_time() - started) * 1000)
        return min(taken)

    def of_length(name: str, size: int) -> float:
        text = (WORST[name] * size)[:size] + " instructions rules bomb kill sex mode"
        return milliseconds([{"role": "user", "content": text}])

    with (ROOT / "data" / "live.jsonl").open(encoding="utf-8") as file:
        live = [milliseconds(json.loads(line)["messages"]) for line in file]
    growth = {name: of_length(name, LONG) / max(of_length(name, SHORT), 0.01) for name in WORST}
    worst = max(growth, key=lambda name: growth[name])
    return [
        row("a live conversation, on average", "ms", statistics.mean(live), LIMIT_MS, "the limit we set", len(live)),
        row("the slowest live conversation", "ms", max(live), LIMIT_MS, "the limit we set", len(live)),
        row(
            f"growth for a text {LONG // SHORT} times as long, at worst ({worst})", "times", growth[worst],
            2.0 * LONG / SHORT, "twice in proportion", REPEATS,
        ),
    ]  # fmt: skip


def row(metric: str, unit: str, ours: float, other: float, other_is: str, runs: int) -> dict[str, Any]:
    values = {"ours": round(ours, 4), "other": other, "other_is": other_is, "ratio": round(ours / other, 3)}
    return {"metric": metric, "unit": unit, **values, "runs": runs}
