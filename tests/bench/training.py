"""Training on this CPU: ours against TRL's own script, TRL as well tuned as its options allow, and the script of the
documents we started from, brought up to today's API. The demo's model, chats of ultrachat-like length, three rounds in
turn; see _train_contest.py for what all have in common. About five minutes on two quiet cores.

Correctness comes first: ours must give the loss of an unpacked fp32 reference, and the same loss as TRL at each step.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import _train_contest as contest
from training.start import ENVIRONMENT

ROOT = Path(__file__).parents[2]
CLOSE = 1e-2  # of the loss of a step between contestants, and of the reference
OTHERS = {
    "trl tuned": "TRL with bf16 weights and adapters, no checkpointing, no padding",
    "trl adapters": "TRL's own script with --use_peft: fp32 weights, bf16 autocast, checkpointing, 1,024 tokens",
    "trl default": "TRL's own script as it comes: all weights in fp32, bf16 autocast, checkpointing, 1,024 tokens",
    "documents": "the documents' script on today's API: all weights, checkpointing, packed rows of 2,048",
}
# What trains as much as ours does. Adapters against all weights is what a user gains by our recipe, not by our code.
PAIRS = [("ours", name) for name in OTHERS] + [("ours whole", "documents")]
WHO = {"ours": "ours, adapters", "ours whole": "ours, all weights"}
SAME = "trl tuned"  # the one whose steps are the same arithmetic as ours


def run() -> list[dict[str, Any]]:
    subprocess.run(
        [sys.executable, "-m", "training.base_model", "--output", str(contest.MODEL)],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    off = check_loss()
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(worker(name)) for name in contest.NAMES}
        rounds = [{name: ask(each) for name, each in workers.items()} for _ in range(contest.STEPS)]
    apart = max(abs(each["ours"]["loss"] - each[SAME]["loss"]) for each in rounds)
    if apart > CLOSE:
        raise SystemExit(f"✗ our loss is {apart:.4f} away from TRL's after the same tokens: the speeds mean nothing")
    rows = []
    for who, name in PAIRS:
        for unit, per in (("tokens/s", "seconds"), ("tokens/CPU s", "processor")):
            ours, other = ([e[which]["tokens"] / e[which][per] for e in rounds] for which in (who, name))
            ratio = statistics.median(a / b for a, b in zip(ours, other, strict=True))
            values = {"ours": round(statistics.median(ours), 1), "other": round(statistics.median(other), 1)}
            fixed = {"other_is": OTHERS[name], "ratio": round(ratio, 3), "runs": contest.STEPS}
            rows.append({"metric": f"{WHO[who]}: tokens trained, without padding", "unit": unit, **values, **fixed})
    for metric, value, against in (
        ("loss a label away from the reference", off, "allowed, against each chat alone in fp32"),
        ("loss of a step away from TRL", apart, "allowed, after equal tokens"),
    ):
        numbers = {"ours": round(value, 5), "other": CLOSE, "other_is": against, "ratio": round(value / CLOSE, 3)}
        rows.append({"metric": metric, "unit": "nats", **numbers, "runs": 1})
    return rows


def check_loss() -> float:
    """How far our loss, packed and in bf16, is from that of each chat alone in fp32. Raises SystemExit when too far."""
    import torch

    from training import model as models
    from training.packing import flatten_rows, packed
    from training.step import add_sparse_loss

    examples = contest.chats()[: contest.CHATS]
    expected, labels = contest.reference(examples)
    recipe = contest.recipe()
    model = models.load_model(recipe, str(contest.MODEL)).eval()
    add_sparse_loss(model)
    with torch.no_grad():
        inputs = flatten_rows(packed(examples, contest.LONGEST))
        total = model(**inputs, use_cache=False, sparse_loss=True)["loss"].item()
    counted = int((inputs["labels"][:, 1:] >= 0).sum())
    if counted != labels or abs(total - expected) / labels > CLOSE:
        raise SystemExit(
            f"✗ packed {total / counted:.4f} over {counted} labels, alone {expected / labels:.4f}, {labels}"
        )
    return abs(total - expected) / labels


@contextlib.contextmanager
def worker(name: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.bench._train_contest", name]
    environment = os.environ | ENVIRONMENT
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                raise SystemExit(f"✗ {name} did not start: run `{' '.join(command[1:])}` to see why")
            yield process
        finally:
            assert process.stdin
            process.stdin.close()
            process.wait(60)


def ask(process: subprocess.Popen[str]) -> dict[str, float]:
    """Let one contestant do a step while the others wait."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("step\n")
    process.stdin.flush()
    done: dict[str, float] = json.loads(process.stdout.readline())
    return done
