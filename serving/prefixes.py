"""Keeps the keys and values of prompt beginnings that several requests share (a system prompt, few-shot examples).

In a causal model the state of a prefix does not depend on what follows, so it is computed once and copied.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WORTH_IT = 32  # tokens: fewer are computed as quickly as they are looked up
RECENT = 16  # prompts remembered (their token ids only) to notice what the next one shares with them


@dataclass(frozen=True)
class Prefix:
    tokens: list[int]
    keys: list[Any]  # per layer a (heads, tokens, size) tensor
    values: list[Any]


def shared_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning of two token lists."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # comparing slices runs in C; halving keeps the slices few
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class PrefixStore:
    """At most `budget` tokens of prefixes, least recently shared out first. A budget of 0 switches it off."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.kept: list[Prefix] = []  # most recently used last
        self._recent: deque[Sequence[int]] = deque(maxlen=RECENT)

    def plan(self, prompt: Sequence[int], others: Sequence[Sequence[int]]) -> tuple[Prefix | None, int, int]:
        """(a kept prefix or None, how many of its tokens fit, how many of the prompt's tokens are worth keeping).

        The last token of a prompt is never reused: its logits are wanted.
        """
        limit = len(prompt) - 1
        if not self.budget or limit < WORTH_IT:
            return None, 0, 0
        fits = [(min(limit, shared_length(prompt, p.tokens)), p) for p in self.kept]
        touched = [p for n, p in fits if n >= WORTH_IT]
        self.kept = [p for n, p in fits if n < WORTH_IT] + touched
        length, best = max(fits, key=lambda f: f[0], default=(0, None))
        if length < WORTH_IT:
            length, best = 0, None
        probe = prompt[: length + WORTH_IT]
        # The same prompt again says nothing about what others will share, and computing it alone costs the batch.
        peers = [o for o in (*others, *self._recent) if o[: len(probe)] == probe and o != prompt]
        common = max((min(limit, shared_length(prompt, o)) for o in peers), default=0)
        self._recent.append(prompt)
        worth = common if length + WORTH_IT <= common <= self.budget else 0
        return best, length, worth

    def keep(self, prefix: Prefix) -> None:
        # A longer prefix serves every request its own beginning did.
        self.kept = [p for p in self.kept if p.tokens != prefix.tokens[: len(p.tokens)]] + [prefix]
        while sum(len(p.tokens) for p in self.kept) > self.budget:
            self.kept.pop(0)
