"""Writes the sample data of this repository: synthetic support tickets and their triage as strict JSON.

Deterministic: the same arguments give the same bytes. The wording lives in `data/phrases/*.yaml`; this file only
combines it. What the labels mean is in `data/README.md`.

    python -m data.make_tickets              # rewrites tickets.jsonl, heldout.jsonl, live.jsonl beside this file
    python -m data.make_tickets --dev FILE   # another wording again, to choose hyper-parameters on
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from data.errors import DataError
from data.load import write_jsonl
from data.stories import Wording, draw_seed, length_slice, shorter, thread
from data.tokens import approximate_chat_tokens

HERE = Path(__file__).resolve().parent
LONG_PROMPT_TOKENS = 330  # a long live thread has at least as many, by the approximation


@dataclass(frozen=True)
class Recipe:
    """How many rows of which kind a file gets."""

    wording: str
    prefix: str
    seeds: int
    paraphrases: int
    multi_turn: float
    long_share: float = 0.0
    max_tokens: int = 1024  # of a prompt, by the approximation; longer drafts are drawn again


FILES = {
    "tickets.jsonl": Recipe("pool", "t", seeds=400, paraphrases=3, multi_turn=0.2),
    "heldout.jsonl": Recipe("heldout", "h", seeds=100, paraphrases=2, multi_turn=0.2, max_tokens=195),
    "live.jsonl": Recipe("live", "l", seeds=240, paraphrases=1, multi_turn=0.2, long_share=0.3),
}
DEV = Recipe("dev", "d", seeds=100, paraphrases=1, multi_turn=0.2)


def make_rows(recipe: Recipe, seed: int, used_orders: set[str]) -> list[dict[str, Any]]:
    """Rows of one file, in a shuffled order that depends on `seed` alone; no two prompts are equal."""
    words: Wording = yaml.safe_load((HERE / "phrases" / f"{recipe.wording}.yaml").read_text(encoding="utf-8"))
    rng = random.Random(f"{recipe.wording}-{seed}")  # noqa: S311 (sample data, no secret)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number in range(recipe.seeds):
        long = number < recipe.long_share * recipe.seeds
        multi = rng.random() < (0.6 if long else recipe.multi_turn)
        story = draw_seed(rng, words, used_orders, multi, long)
        wanted = len(rows) + recipe.paraphrases
        while len(rows) < wanted:
            messages, facts = thread(rng, words, story)
            prompt = "\n".join(m["content"] for m in messages[:-1])
            if prompt in seen:
                continue
            tokens = approximate_chat_tokens(messages[:-1])
            if long and tokens < LONG_PROMPT_TOKENS:
                story = replace(story, chatter=story.chatter + 1)
                continue
            if tokens > recipe.max_tokens:
                first = len(rows) == wanted - recipe.paraphrases  # later ones keep the plan, as they share its facts
                story = shorter(story, cut_plan=first)
                continue
            seen.add(prompt)
            slices = {
                "priority": facts.priority,
                "category": facts.category,
                "length": "thread" if long else length_slice(messages),
                "tone": story.tone,
                "turns": "multi" if story.plan else "single",
                "order": "given" if facts.order_id else "missing",
            }
            rows.append({"cluster_id": f"{recipe.prefix}c-{number:04d}", "messages": messages, "slices": slices})
    rng.shuffle(rows)
    return [{"id": f"{recipe.prefix}-{index:05d}", **row} for index, row in enumerate(rows)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the three files (default: data/)")
    parser.add_argument("--dev", type=Path, help="write only this file, in a wording that no other file has")
    parser.add_argument("--seed", type=int, default=20260, help="another number gives other tickets (default: 20260)")
    args = parser.parse_args(argv)
    used: set[str] = set()
    try:
        made = {args.output / name: make_rows(recipe, args.seed, used) for name, recipe in FILES.items()}
        if args.dev:
            made = {args.dev: make_rows(DEV, args.seed, used)}
        for path, rows in made.items():
            write_jsonl(path, rows)
            print(f"{path}: {len(rows)} rows")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
