"""Which rows are one: the same cluster, content or prompt, or nearly the same text. Only numbers are looked at.

Near duplicates are found band by band (see `similarity`): rows are sorted by a band's number, neighbours with an equal
one are compared by their whole signatures. That is sorting, so time is linear but for a logarithm.
"""

from __future__ import annotations

import numpy as np

from data.similarity import BANDS, Array, alike
from data.spill import Spill

PAIRS_AT_ONCE = 4_096


def components(rows: int, left: Array, right: Array, labels: Array | None = None) -> Array:
    """Union-find over whole columns: for each row the first row of its component. `labels`: what is joined already."""
    label: Array = np.arange(rows) if labels is None else labels.copy()
    while len(left):
        ours, theirs = label[left], label[right]
        apart = ours != theirs
        left, right, ours, theirs = left[apart], right[apart], ours[apart], theirs[apart]
        np.minimum.at(label, np.maximum(ours, theirs), np.minimum(ours, theirs))
        while not np.array_equal(label, shorter := label[label]):
            label = shorter
    return label


def first_with_same(keys: Array) -> Array:
    """For each row the first row with its key; the row itself where the key is 0 (nothing to compare)."""
    firsts = np.arange(len(keys))
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins: Array = np.append(True, ordered[1:] != ordered[:-1]) if len(keys) else np.zeros(0, bool)
    leaders = order[np.maximum.accumulate(np.where(begins, np.arange(len(keys)), 0))] if len(keys) else order
    firsts[order] = leaders
    return np.where(keys == 0, np.arange(len(keys)), firsts)


def near_pairs(columns: Spill, joined: Array, share: float) -> tuple[Array, Array]:
    """Pairs of rows that are not `joined` already and have at least `share` of their text in common."""
    lefts: list[Array] = [np.zeros(0, np.int64)]
    rights: list[Array] = [np.zeros(0, np.int64)]
    sound = columns.column("content") != 0
    for band in range(BANDS):
        keys = columns.column(f"band-{band}")
        order = np.argsort(keys, kind="stable")
        begins: Array = np.append(True, keys[order][1:] != keys[order][:-1])
        leader = np.maximum.accumulate(np.where(begins, np.arange(len(keys)), 0))
        at = np.flatnonzero(~begins)
        # Each with the one before it and with the first: all pairs of a group would not be linear.
        pairs: Array = np.array([np.append(order[at - 1], order[leader[at]]), np.append(order[at], order[at])])
        apart = (joined[pairs[0]] != joined[pairs[1]]) & sound[pairs[0]] & sound[pairs[1]]
        left, right = np.unique(pairs[:, apart], axis=1)
        for begin in range(0, len(left), PAIRS_AT_ONCE):
            some = slice(begin, begin + PAIRS_AT_ONCE)
            ours, theirs = columns.rows("signature", left[some]), columns.rows("signature", right[some])
            close = alike(ours, theirs) >= share
            lefts.append(left[some][close])
            rights.append(right[some][close])
            joined = components(len(keys), lefts[-1], rights[-1], joined)
    return np.concatenate(lefts), np.concatenate(rights)
