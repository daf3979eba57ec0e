"""Writes the sample data of this repository: synthetic support tickets and their triage as strict JSON.

Deterministic: the same arguments give the same bytes. The wording lives in `data/phrases/*.yaml`; this file only
combines it. What the labels mean is in `data/README.md`.

    python -m data.make_tickets              # rewrites tickets.jsonl, heldout.jsonl, live.jsonl beside this file
    python -m data.make_tickets --dev FILE   # another wording again, to choose hyper-parameters on
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from data.errors import DataError
from data.load import write_jsonl
from data.tokens import approximate_chat_tokens

HERE = Path(__file__).resolve().parent
SYSTEM = (
    "Triage the support ticket. Answer only with JSON: category (billing, delivery, defect, account), "
    "priority (low, normal, high), product, order_id (or null)."
)
PRIORITIES = ("low", "normal", "high")
TONES = ("polite", "neutral", "angry")
LONG_PROMPT_TOKENS = 330  # a long live thread has at least as many, by the approximation

Wording = dict[str, Any]
Message = dict[str, str]


@dataclass(frozen=True)
class Facts:
    """What a triage says about a thread; the order of the fields is the key order of the answer."""

    category: str
    priority: str
    product: str
    order_id: str | None

    def answer(self) -> str:
        return json.dumps(self.__dict__, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Seed:
    """One customer's story. Its paraphrases share the facts and the plan, never the words."""

    facts: Facts  # as the first message tells them
    orders: tuple[str, ...]  # given later, by follow-ups of kind "order"
    plan: tuple[str, ...]  # kinds of the follow-ups: order, high, low, none
    tone: str
    chatter: int  # sentences that mean nothing for the triage, in each of the customer's turns


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


def _order_id(rng: random.Random, used: set[str]) -> str:
    """A fresh id like `KX-48213`; `used` is shared by all files, so that no two have one in common."""
    while True:
        order = "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=2)) + f"-{rng.randrange(10_000, 100_000)}"
        if order not in used:
            used.add(order)
            return order


def _seed(rng: random.Random, words: Wording, used: set[str], multi: bool, long: bool) -> Seed:
    priority = rng.choice(PRIORITIES)
    kinds = {"low": ["order", "high"], "normal": ["order", "high", "low"], "high": ["order", "low"]}[priority]
    plan: list[str] = []
    if multi:
        plan = rng.sample([*kinds, "none"], k=1 if rng.random() < 0.7 and not long else 2)
        if long:
            plan += ["none"] * rng.randrange(2, 4)
            rng.shuffle(plan)
    given = "order" not in plan and rng.random() < 0.75
    facts = Facts(
        category=rng.choice(list(words["issues"])),
        priority=priority,
        product=f"{rng.choice(words['brands'])} {rng.choice(words['items'])}",
        order_id=_order_id(rng, used) if given else None,
    )
    orders = tuple(_order_id(rng, used) for kind in plan if kind == "order")
    chatter = (2 if multi else 9) if long else rng.choice([0, 0, 0, 0, 1, 1, 2])
    return Seed(facts, orders, tuple(plan), rng.choice(TONES), chatter)


def _first_message(rng: random.Random, words: Wording, seed: Seed) -> str:
    """Opening, then issue, order and urgency in a changing order, then chatter and closing."""
    facts = seed.facts
    issue = rng.choice(words["issues"][facts.category]).format(p=facts.product)
    parts = [issue, rng.choice(words["priority"][facts.priority])]
    if facts.order_id:
        parts.insert(rng.randrange(1, 3), rng.choice(words["order"]).format(o=facts.order_id))
    if rng.random() < 0.2:
        rng.shuffle(parts)
    for sentence in rng.sample(words["filler"], k=min(seed.chatter, len(words["filler"]))):
        parts.insert(rng.randrange(1, len(parts) + 1), sentence)
    opening, closing = rng.choice(words["opening"][seed.tone]), rng.choice(words["closing"][seed.tone])
    return " ".join(part for part in (opening, *parts, closing) if part)


def _thread(rng: random.Random, words: Wording, seed: Seed) -> tuple[list[Message], Facts]:
    """The whole chat: every turn of the customer is answered by the triage as it stands then."""
    facts, orders = seed.facts, list(seed.orders)
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": _first_message(rng, words, seed)}]
    for kind in seed.plan:
        messages.append({"role": "assistant", "content": facts.answer()})
        text = rng.choice(words["follow_up"][kind])
        if kind == "order":
            facts = replace(facts, order_id=orders.pop(0))
            text = text.format(o=facts.order_id)
        elif kind != "none":
            facts = replace(facts, priority=kind)
        if len(seed.plan) > 2:
            text = " ".join([text, *rng.sample(words["filler"], k=seed.chatter)])
        messages.append({"role": "user", "content": text})
    messages.append({"role": "assistant", "content": facts.answer()})
    return messages, facts


def _shorter(story: Seed, cut_plan: bool) -> Seed:
    """The same story with less chatter, or, when there is none left, with one follow-up less."""
    if story.chatter or not cut_plan:
        return replace(story, chatter=max(0, story.chatter - 1))
    return replace(story, plan=story.plan[:-1])


def _length(messages: list[Message]) -> str:
    """Slice by the number of words that the customer wrote: short, medium, long."""
    count = sum(len(m["content"].split()) for m in messages if m["role"] == "user")
    return "short" if count <= 16 else "medium" if count <= 30 else "long"


def make_rows(recipe: Recipe, seed: int, used_orders: set[str]) -> list[dict[str, Any]]:
    """Rows of one file, in a shuffled order that depends on `seed` alone; no two prompts are equal."""
    words: Wording = yaml.safe_load((HERE / "phrases" / f"{recipe.wording}.yaml").read_text(encoding="utf-8"))
    rng = random.Random(f"{recipe.wording}-{seed}")  # noqa: S311 (sample data, no secret)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number in range(recipe.seeds):
        long = number < recipe.long_share * recipe.seeds
        multi = rng.random() < (0.6 if long else recipe.multi_turn)
        story = _seed(rng, words, used_orders, multi, long)
        wanted = len(rows) + recipe.paraphrases
        while len(rows) < wanted:
            messages, facts = _thread(rng, words, story)
            prompt = "\n".join(m["content"] for m in messages[:-1])
            if prompt in seen:
                continue
            tokens = approximate_chat_tokens(messages[:-1])
            if long and tokens < LONG_PROMPT_TOKENS:
                story = replace(story, chatter=story.chatter + 1)
                continue
            if tokens > recipe.max_tokens:
                first = len(rows) == wanted - recipe.paraphrases  # later ones keep the plan, as they share its facts
                story = _shorter(story, cut_plan=first)
                continue
            seen.add(prompt)
            slices = {
                "priority": facts.priority,
                "category": facts.category,
                "length": "thread" if long else _length(messages),
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
