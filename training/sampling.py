"""The order of training examples: batches of like length, drawn in random order.

The stock `group_by_length` sorts windows of fifty batches from long to short, so a short run would learn the long chats
first and end on the shortest. Here the batches are formed by length and then shuffled, which keeps the padding low and
leaves no trend in length over the run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

WINDOW = 16  # batches that are sorted together: more saves padding, fewer keeps the batches more mixed


def grouped_order(lengths: Sequence[int], batch_size: int, seed: int | str) -> list[int]:
    """A permutation of the indices of `lengths`; consecutive runs of `batch_size` are of like length.

    Only the last batch may be smaller. The same seed gives the same order on every machine.
    """
    rng = random.Random(seed)  # noqa: S311 (an order of examples, no secret)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = sorted(order[start : start + WINDOW * batch_size], key=lambda index: lengths[index])
        batches += [window[at : at + batch_size] for at in range(0, len(window), batch_size)]
    whole = [batch for batch in batches if len(batch) == batch_size]
    rest = [index for batch in batches if len(batch) < batch_size for index in batch]
    rng.shuffle(whole)
    return [index for batch in whole for index in batch] + rest


def random_order(lengths: Sequence[int], batch_size: int, seed: int | str) -> list[int]:  # noqa: ARG001
    """A permutation of the indices of `lengths`, whatever they are."""
    order = list(range(len(lengths)))
    random.Random(seed).shuffle(order)  # noqa: S311 (an order of examples, no secret)
    return order


ORDERS = {"random": random_order, "group_by_length": grouped_order}


class OrderedSampler(Sampler[int]):
    """One of ORDERS as a torch sampler: another order in each epoch, the same one in each run, however it was cut."""

    def __init__(self, name: str, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._order, self._lengths, self._batch_size, self._seed = ORDERS[name], list(lengths), batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        order = self._order(self._lengths, self._batch_size, f"{self._seed}-{self._epoch}")
        self._epoch += 1
        return iter(order)
