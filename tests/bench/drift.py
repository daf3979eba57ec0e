"""How long `retrain-decision` thinks about drift: 100,000 collected prompts against 100,000 earlier ones."""

import json
import random
import time
from collections.abc import Iterator
from typing import Any

from scripts.operate import collected, drift
from scripts.operate.policy import RETRAIN, Retrain, load
from tests.bench._limit import against

ROWS, BATCH, LIMIT_SECONDS = 100_000, 50, 60.0
MODEL = "tickets:1"


def run() -> list[dict[str, Any]]:
    """From the lines of the blobs to the word on drift; reading them from storage is left out."""
    then, now = (list(lines(seed)) for seed in (1, 2))
    started = time.perf_counter()
    first, week = (collected.Statistics(each, MODEL) for each in (then, now))
    read = time.perf_counter() - started
    assert len(first.rows) == len(week.rows) == ROWS, "every row is read"
    started = time.perf_counter()
    signals = drift.compare(first.rows, week.rows, load(Retrain, RETRAIN).drift)
    judged = time.perf_counter() - started
    assert sum(signal.p_value is not None for signal in signals) == len(signals) - 1, "all but the judge's"
    return [
        against("drift over 100,000 prompts", "s", read + judged, LIMIT_SECONDS),
        against("of this, reading the rows", "s", read, LIMIT_SECONDS),
        against("of this, the tests", "s", judged, LIMIT_SECONDS),
    ]


def lines(seed: int) -> Iterator[bytes]:
    """Events as the data collector files them."""
    rng = random.Random(seed)
    for batch in range(ROWS // BATCH):
        rows = [row(f"{seed}-{batch}-{at}", rng) for at in range(BATCH)]
        yield json.dumps({"specversion": "1.0", "time": "2026-11-09T10:00:00Z", "data": rows}).encode()


def row(name: str, rng: random.Random) -> dict[str, Any]:
    return {
        "id": name,
        "model": MODEL,
        "prompt_characters": int(rng.lognormvariate(5, 0.6)),
        "prompt_tokens": 90,
        "rare_share": round(rng.betavariate(1, 20), 4),
        "language": rng.choice(["en"] * 8 + ["de", "fr"]),
        "sketch": [int(rng.gauss(0, 20)) for _ in range(32)],
        "answer_characters": 80,
        "answer_tokens": int(rng.lognormvariate(3.3, 0.3)),
        "finish_reason": "stop" if rng.random() < 0.98 else "length",
        "valid": rng.random() < 0.97,
        "refused": rng.random() < 0.01,
    }
