"""Which rows are trained on, which validate and which are held out: decided by their duplicate cluster alone.

Rows of one cluster, with the same messages or prompt, or with nearly the same text are one, and one number drawn from
its name places it: the same on every machine and day, whatever the order of the rows.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
VALIDATION_SHARE = 0.1
HELD_OUT_SHARE = 0.1  # only where no held-out file is given
_MIX = np.uint64(0x9E3779B97F4A7C15)


def draw(cluster_id: str) -> int:
    """64 bits from the cluster's name."""
    digest = hashlib.sha256(f"split-1:{cluster_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8])


def is_validation(cluster_id: str, share: float = VALIDATION_SHARE) -> bool:
    """Whether a cluster validates. All paraphrases of one story fall on one side, and adding rows moves none."""
    return draw(cluster_id) < share * 2**64


def draws_of(components: Array, draws: Array) -> Array:
    """One number for all rows of a component: of its members' draws the one that another hash puts first.

    A component of one cluster keeps that cluster's draw. Adding a row that joins two clusters may move one of them.
    """
    mixed = draws * _MIX
    mixed ^= mixed >> np.uint64(32)
    order = np.lexsort((mixed, components))
    begins: Array = np.append(True, components[order][1:] != components[order][:-1])
    chosen: Array = np.zeros(len(draws), np.uint64)
    chosen[components[order][begins]] = draws[order][begins]
    return chosen[components]


def places(draws: Array, validation: float, held_out: float) -> Array:
    """For each row 0 train, 1 validation, 2 held out. A larger share only adds clusters to a side."""
    first, second = (np.uint64(min(int(share * 2**64), 2**64 - 1)) for share in (validation, validation + held_out))
    return np.where(draws < first, 1, np.where(draws < second, 2, 0))
