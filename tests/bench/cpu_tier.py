"""The CPU tier against transformers' own `generate` in bf16: the demo's fine-tuned model, the same held-out tickets.

Correctness first: the exact match of both on all held-out tickets, over the wire, pair by pair. Then speed, three
rounds in turn: one request at a time, and sixteen at once (`generate` gets them as one batch, known beforehand). The
other side is a plain scoring script (_plain_score.py) in the same server. Tokens are counted in the answers' texts,
with one tokenizer for all.

Trains the demo's recipe once into out/bench/cpu_tier; all of it takes about thirteen minutes on two slow cores.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from scipy.stats import binomtest

from tests.bench.serving import ROOT, Talk, ask, server

HERE = ROOT / "out" / "bench" / "cpu_tier"
BASE, TUNED = ROOT / ".cache" / "smollm2-135m-instruct", HERE / "tuned"
HELD_OUT = ROOT / "data" / "heldout.jsonl"
RECIPES = ("int8", "int8_blocks", "int4")
ROUNDS, ALONE, TOGETHER, TOKENS = 3, 6, 16, 64
GENERATE = "transformers' generate in bf16"


def run() -> list[dict[str, Any]]:
    prepare()
    chats = [json.loads(line)["messages"] for line in HELD_OUT.read_text(encoding="utf-8").splitlines()]
    asked, wanted = [chat[:-1] for chat in chats], [chat[-1]["content"] for chat in chats]
    with contextlib.ExitStack() as stack:
        plain = Path(__file__).with_name("_plain_score.py")
        servers = {"generate": stack.enter_context(server(plain, AZUREML_MODEL_DIR=str(TUNED)))}
        for name, folder in {"python tier": TUNED, **{r: HERE / r for r in RECIPES}}.items():
            servers[name] = stack.enter_context(
                server(ROOT / "serving" / "score.py", threads=20, AZUREML_MODEL_DIR=str(folder))
            )
        ways = {name: Way(each.url, batch=name == "generate") for name, each in servers.items()}
        right = {name: list(map(same, way.all(asked), wanted)) for name, way in ways.items()}
        speeds: dict[tuple[str, int], list[float]] = {}
        for number in range(ROUNDS):
            for at_once, count in ((1, ALONE), (TOGETHER, TOGETHER)):
                talks = asked[number * TOGETHER :][:count]
                for name, way in ways.items():
                    speeds.setdefault((name, at_once), []).append(way.tokens_per_second(talks, at_once))
    rows = [correctness(name, right[name], right["generate"]) for name in ("python tier", *RECIPES)]
    for name in RECIPES:
        for at_once, what in ((1, "one request at a time"), (TOGETHER, f"{TOGETHER} at once")):
            for other, who in (("generate", GENERATE), ("python tier", "our Python tier, bf16")):
                ours, theirs = speeds[name, at_once], speeds[other, at_once]
                ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
                values = statistics.median(ours), statistics.median(theirs)
                rows.append(row(f"{name}: {what}", "tokens/s", *values, other=who, ratio=ratio))
        healthy = servers[name].seconds_to_healthy, servers["generate"].seconds_to_healthy
        rows.append(row(f"{name}: start to healthy", "s", *healthy, runs=1))
        sizes = megabytes(HERE / name), megabytes(TUNED)
        rows.append(row(f"{name}: files", "MB", *sizes, other="the bf16 model", runs=1))
    return rows


def correctness(name: str, ours: Sequence[bool], theirs: Sequence[bool]) -> dict[str, Any]:
    """Right answers, and whether the pairs in which only one is right speak against chance (exact McNemar test)."""
    lost, won = (sum(a < b for a, b in zip(x, y, strict=True)) for x, y in ((ours, theirs), (theirs, ours)))
    p = binomtest(won, lost + won).pvalue if lost + won else 1.0
    who = f"{GENERATE}, which alone is right in {lost} and alone wrong in {won}: p = {p:.2f}"
    return row(f"{name}: right answers of {len(ours)}", "answers", sum(ours), sum(theirs), other=who, runs=1)


def row(
    metric: str, unit: str, ours: float, theirs: float, *, other: str = GENERATE, ratio: float = 0.0, runs: int = ROUNDS
) -> dict[str, Any]:
    values = {"ours": round(ours, 2), "other": round(theirs, 2), "other_is": other}
    return {"metric": metric, "unit": unit, **values, "ratio": round(ratio or ours / theirs, 3), "runs": runs}


class Way:
    """How one server is asked: a batch in one request, or requests that meet in it."""

    def __init__(self, url: str, batch: bool) -> None:
        from transformers import AutoTokenizer

        self.url, self.batch = url, batch
        self.tokenizer = AutoTokenizer.from_pretrained(TUNED)

    def all(self, talks: Sequence[Talk], at_once: int = TOGETHER) -> list[str]:
        with httpx.Client(timeout=300) as client, ThreadPoolExecutor(at_once) as pool:
            if self.batch:
                parts = [talks[i : i + at_once] for i in range(0, len(talks), at_once)]
                replies = [ask(client, self.url, list(part), TOKENS) for part in parts]
            else:
                replies = list(pool.map(lambda talk: ask(client, self.url, talk, TOKENS), talks))
        return [choice["message"]["content"] for reply in replies for choice in reply["choices"]]

    def tokens_per_second(self, talks: Sequence[Talk], at_once: int) -> float:
        began = time.perf_counter()
        answers = self.all(talks, at_once)
        seconds = time.perf_counter() - began
        return float(sum(len(ids) for ids in self.tokenizer(answers)["input_ids"]) / seconds)


def same(answer: str, wanted: str) -> bool:
    try:
        return bool(json.loads(answer) == json.loads(wanted))
    except ValueError:
        return False


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def prepare() -> None:
    """The tuned model, once, and its conversions, each time: their code may have changed."""
    if not (TUNED / "config.json").is_file():
        call("training.base_model", "--output", BASE)
        call("scripts", "data", "--check-only", "--source", "data/tickets.jsonl", "--held-out", HELD_OUT,
             "--tokenizer", BASE, "--folder", HERE / "data", "--out", HERE / "dataset.json")  # fmt: skip
        call("training.train", "--recipe", ROOT / "training/recipes/cpu_demo.yaml", "--base-model", BASE,
             "--data", HERE / "data" / "training", "--output", TUNED, folder=HERE)  # fmt: skip
    for name in RECIPES:
        shutil.rmtree(HERE / name, ignore_errors=True)
        call("convert", "--model", TUNED, "--recipe", ROOT / f"convert/recipes/{name}.yaml", "--prompts", HELD_OUT,
             "--output", HERE / name)  # fmt: skip


def call(module: str, *arguments: Any, folder: Path = ROOT) -> None:
    """Run a module of ours; where it fails, what it said."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"✗ {' '.join(command[1:])}: {(done.stderr or done.stdout).strip()[-800:]}")
