"""Ten minutes (SOAK_MINUTES) of 64 clients of all kinds against the real scoring server on a tiny model.

Everybody is answered or told why not, or it fails (tests/serving/test_load.py); memory, files and threads stay as they
were. torch and oneDNN keep what they have compiled for each shape of a batch, 1,024 shapes each; here 16, or these
would be most of what grows in ten minutes, and hide what leaks.
"""

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
PARTS = 10
GROWTH = 1.05  # of memory, from the end of the first part to the end of the last


def run() -> list[dict[str, Any]]:
    sys.path[:0] = [str(ROOT / "serving"), str(ROOT / "tests" / "serving")]
    from real_server import serve
    from test_load import CLIENTS, QUEUE, ROWS, crowd, held
    from tiny_models import make_model, make_tokenizer

    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_model("llama").save_pretrained(root / "tiny")
        make_tokenizer().save_pretrained(root / "tiny")
        settings = {"MAX_BATCH_SIZE": str(ROWS), "MAX_QUEUED_REQUESTS": str(QUEUE), "CLIENT_TIMEOUT_MS": "2000"}
        settings |= {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "16"}
        with serve(root, root / "log", CONTENT_FILTER="local", **settings) as server:
            (worker,), marks = server.workers(), []
            for part in range(PARTS):
                seen += crowd(server, 60 * MINUTES / PARTS, seed=part)
                marks.append(held(server))
                told = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items()))
                print(f"  {part + 1}/{PARTS}: {told}; {marks[-1][2] // 1024} MB", flush=True)
            if server.workers() != [worker]:
                raise SystemExit("✗ the worker died on the way: there is nothing to measure")
    (files, threads, before), (files_after, threads_after, after) = marks[0], marks[-1]
    what = f"{MINUTES:g} minutes, {CLIENTS} clients, {sum(seen.values())} requests"
    return [
        row(f"{what}: memory at the end", "MB", after / 1024, GROWTH * before / 1024, "5 % above its beginning"),
        row(f"{what}: open files at the end", "files", files_after, files + CLIENTS, "as at first, and one a client"),
        row(f"{what}: threads at the end", "threads", threads_after, threads + 2, "its beginning, and two"),
    ]  # fmt: skip


def row(metric: str, unit: str, ours: float, other: float, other_is: str) -> dict[str, Any]:
    values = {"ours": round(ours, 1), "other": round(other, 1), "other_is": other_is, "ratio": round(ours / other, 3)}
    return {"metric": metric, "unit": unit, **values, "runs": 1}
