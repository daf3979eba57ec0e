"""The data step at size: memory and time by rows, and against what TRL does with the same rows.

Made-up conversations of ultrachat's lengths. Other sizes: `DATA_ROWS=1000000 make bench BENCH=data` (20 GB of disk).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import _chats
from tests.bench._limit import against

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache/smollm2-135m-instruct"
SIZES = (10_000, 100_000)
SHARED, ROUNDS = 20_000, 3  # a tenth of ultrachat: what starting costs does not count for much
OTHERS = {"trl": "TRL's _prepare_dataset, as it comes", "trl-processes": "TRL's _prepare_dataset on all cores"}
GROWTH = 1.25  # of time a row, and of memory, from the smallest size to the largest
BYTES_A_ROW = 200  # of memory that may grow with the rows


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir=ROOT / "out") as folder:
        return [*against_trl(Path(folder)), *by_size(Path(folder))]


def against_trl(folder: Path) -> list[dict[str, Any]]:
    """Rows a second, of the clock and of the processor: on a crowded machine only the second says something.

    The ids and labels are shown to be the same before anything is compared.
    """
    path = folder / "shared.jsonl"
    _chats.write(path, SHARED)
    measures = {"seconds": "rows a second", "cpu": "rows a second of processor time"}
    rates: dict[str, dict[str, list[float]]] = {how: {name: [] for name in measures} for how in ("ours", *OTHERS)}
    digests = set()
    for _ in range(ROUNDS):
        for how, found in rates.items():
            answer = side(how, path)
            digests.add(answer["digest"])
            for name in measures:
                found[name].append(SHARED / answer[name])
    if len(digests) != 1:
        raise SystemExit("✗ The ids and labels of TRL and ours differ: there is nothing to compare.")
    return [
        {
            "metric": f"{said}, {SHARED} chats: checked, rendered, encoded",
            "unit": "1/s",
            "ours": round(ours := statistics.median(rates["ours"][name]), 1),
            "other": round(other := statistics.median(rates[how][name]), 1),
            "other_is": what,
            "ratio": round(ours / other, 2),
            "runs": ROUNDS,
        }
        for how, what in OTHERS.items()
        for name, said in measures.items()
    ]


def by_size(folder: Path) -> list[dict[str, Any]]:
    """The whole step, `prepare`: read, check, encode, split, write. One run a size."""
    sizes = (*SIZES, *map(int, os.environ.get("DATA_ROWS", "").split()))
    rows: list[dict[str, Any]] = []
    answers: dict[int, dict[str, Any]] = {}
    for size in sizes:
        path = folder / f"{size}.jsonl"
        _chats.write(path, size)
        answers[size] = answer = side("prepare", path)
        path.unlink()
        first = answers[sizes[0]]
        millions = answer["tokens"] / 1e6
        name = f"{size:,} chats, {millions:,.0f} million tokens"
        most = first["mb"] + (size - sizes[0]) * BYTES_A_ROW / 1e6
        rows += [
            against(
                f"{name}: ms a row", "ms", answer["seconds"] / size * 1e3, first["seconds"] / sizes[0] * 1e3 * GROWTH
            ),
            against(f"{name}: peak memory of all processes", "MB", answer["mb"], most * GROWTH),
        ]
    return rows


def side(how: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench._data_side", how, str(path), str(MODEL)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"✗ {how}: {done.stderr.strip()[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
