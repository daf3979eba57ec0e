"""One customer's story: the facts of a ticket, and threads that tell them in the words of `data/phrases/*.yaml`."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import Any

SYSTEM = (
    "Triage the support ticket. Answer only with JSON: category (billing, delivery, defect, account), "
    "priority (normal, high), product, order_id (or null)."
)
TONES = ("polite", "neutral", "angry")

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
    urgency: str  # of the first message: high, calm, none
    orders: tuple[str, ...]  # given later, by follow-ups of kind "order"
    plan: tuple[str, ...]  # kinds of the follow-ups: order, high, calm, none
    tone: str
    chatter: int  # sentences that mean nothing for the triage, in each of the customer's turns


def _order_id(rng: random.Random, used: set[str]) -> str:
    """A fresh id like `KX-48213`; `used` is shared by all files, so that no two have one in common."""
    while True:
        order = "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=2)) + f"-{rng.randrange(10_000, 100_000)}"
        if order not in used:
            used.add(order)
            return order


def draw_seed(rng: random.Random, words: Wording, used: set[str], multi: bool, long: bool) -> Seed:
    """A new story. A long one has many follow-ups, or much chatter in one message."""
    urgency = rng.choice(
        ["high", "high", "calm", "none", "none"]
    )  # what is said: that it hurries, can wait, or nothing
    kinds = ["order", "calm" if urgency == "high" else "high", "none"]
    plan: list[str] = []
    if multi:
        plan = rng.sample(kinds, k=1 if rng.random() < 0.7 and not long else 2)
        if long:
            plan += ["none"] * rng.randrange(2, 4)
            rng.shuffle(plan)
    given = "order" not in plan and rng.random() < 0.75
    facts = Facts(
        category=rng.choice(list(words["issues"])),
        priority="high" if urgency == "high" else "normal",
        product=f"{rng.choice(words['brands'])} {rng.choice(words['items'])}",
        order_id=_order_id(rng, used) if given else None,
    )
    orders = tuple(_order_id(rng, used) for kind in plan if kind == "order")
    chatter = (2 if multi else 9) if long else rng.choice([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    return Seed(facts, urgency, orders, tuple(plan), rng.choice(TONES), chatter)


def _first_message(rng: random.Random, words: Wording, seed: Seed) -> str:
    """Opening, then issue, order and urgency in a changing order, then chatter and closing."""
    facts = seed.facts
    issue = rng.choice(words["issues"][facts.category]).format(p=facts.product)
    parts = [issue]
    if seed.urgency != "none":
        parts.append(rng.choice(words["urgency"][seed.urgency]))
    if facts.order_id:
        parts.insert(rng.randrange(1, len(parts) + 1), rng.choice(words["order"]).format(o=facts.order_id))
    if rng.random() < 0.2:
        rng.shuffle(parts)
    for sentence in rng.sample(words["filler"], k=min(seed.chatter, len(words["filler"]))):
        parts.insert(rng.randrange(1, len(parts) + 1), sentence)
    framed = rng.choice(["opening", "closing", "both"])  # the tone shows in one of them at least
    opening = rng.choice(words["opening"][seed.tone]) if framed != "closing" else ""
    closing = rng.choice(words["closing"][seed.tone]) if framed != "opening" else ""
    return " ".join(part for part in (opening, *parts, closing) if part)


def thread(rng: random.Random, words: Wording, seed: Seed) -> tuple[list[Message], Facts]:
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
            facts = replace(facts, priority="high" if kind == "high" else "normal")
        if len(seed.plan) > 2:
            text = " ".join([text, *rng.sample(words["filler"], k=seed.chatter)])
        messages.append({"role": "user", "content": text})
    messages.append({"role": "assistant", "content": facts.answer()})
    return messages, facts


def shorter(story: Seed, cut_plan: bool) -> Seed:
    """The same story with less chatter, or, when there is none left, with one follow-up less."""
    if story.chatter or not cut_plan:
        return replace(story, chatter=max(0, story.chatter - 1))
    return replace(story, plan=story.plan[:-1])


def length_slice(messages: list[Message]) -> str:
    """Slice by the number of words that the customer wrote: short, medium, long."""
    count = sum(len(m["content"].split()) for m in messages if m["role"] == "user")
    return "short" if count <= 16 else "medium" if count <= 30 else "long"
