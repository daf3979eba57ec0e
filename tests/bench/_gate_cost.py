"""One large decision, timed: `python -m tests.bench._gate_cost ROWS` prints seconds and peak memory as JSON."""

import json
import resource
import sys
import time

import numpy as np

from eval.decide import decide
from eval.policy import LatencyPolicy, MetricPolicy, Policy, SlicePolicy
from eval.scores import ScoreRow

METRICS, TAGS, VALUES, PARAPHRASES = 8, 3, 4, 4


def policy() -> Policy:
    """Eight primary metrics, half of them yes/no, and three tags of four values each."""
    return Policy(
        metrics=[
            MetricPolicy(name=f"m{i}", kind="score" if i % 2 else "binary", margin=0.05, min_drop=0.02, floor=0.5)
            for i in range(METRICS)
        ],
        slices=SlicePolicy(tags=[f"t{i}" for i in range(TAGS)]),
        latency=LatencyPolicy(max_ratio=1.5),
    )


def table(rows: int, seed: int, quality: np.ndarray) -> list[ScoreRow]:
    """Paraphrases of one ticket share a cluster; both sides answer the same prompts with much in common."""
    rng = np.random.default_rng(seed)
    right = np.where(rng.random((rows, METRICS)) < 0.15, rng.random((rows, METRICS)), quality)
    slow = rng.lognormal(5, 0.3, rows)
    return [
        ScoreRow(
            prompt_id=f"p{i:05}",
            cluster_id=f"c{i // PARAPHRASES:05}",
            slices={f"t{t}": f"v{i // PARAPHRASES // VALUES**t % VALUES}" for t in range(TAGS)},
            status="ok",
            metrics={f"m{m}": float(right[i, m] if m % 2 else right[i, m] < 0.8) for m in range(METRICS)},
            latency_ms=float(slow[i]),
            tokens=50,
        )
        for i in range(rows)
    ]


def main(rows: int) -> None:
    quality = np.random.default_rng(0).random((rows, METRICS))
    candidate, baseline, rules = table(rows, 1, quality), table(rows, 2, quality), policy()
    started = time.perf_counter()
    verdict = decide(candidate, baseline, rules)
    seconds = time.perf_counter() - started
    assert verdict.outcome != "invalid" and len(verdict.slices) == METRICS * TAGS * VALUES, verdict.reason
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    print(json.dumps({"seconds": seconds, "mb": peak / 1e6}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
