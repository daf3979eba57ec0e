"""How alike two texts are, from 512 bytes each: MinHash over all their runs of eight bytes.

One hash per run is sorted into 128 bins and the least of each bin kept (one-permutation hashing); empty bins borrow
from the next full one. The share of equal places estimates the share of runs that two texts have in common (Jaccard),
with a standard error of about 0.03. Bands of six places find candidates without comparing all pairs.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PLACES = 128
BANDS, WIDTH = 21, 6  # two texts at 0.8 share a band in 99.8 % of cases, two at 0.4 in 8 %
_RUN = 8
_SPACES = bytes(ord(chr(c).lower()) if c > 127 or chr(c).isalnum() else 32 for c in range(256))
_BOUNDS = (np.arange(PLACES + 1, dtype=np.uint64) << np.uint64(25)).astype(np.uint64)
_MIX, _MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_WEIGHTS = np.random.default_rng(1).integers(1, 2**63, size=(BANDS, WIDTH), dtype=np.uint64) | np.uint64(1)


def signature(text: str) -> Array:
    """128 numbers of 32 bits. Case, punctuation, spacing and the form of characters do not matter."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).casefold()
    words = text.encode("utf-8", "surrogatepass").translate(_SPACES).split()
    padded = b" ".join(words) + b" " * _RUN
    count = max(1, len(padded) - 2 * _RUN + 1)
    runs: Array = np.ndarray(count, "<u8", padded, strides=(1,))  # every run, without copying one
    mixed = runs * _MIX
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX_2
    hashes = np.sort((mixed >> np.uint64(32)).astype(np.uint32))
    starts = np.asarray(np.searchsorted(hashes, _BOUNDS))
    first, after = starts[:-1], starts[1:]
    full = first < after
    least = hashes[np.minimum(first, count - 1)]
    if full.all():
        return least
    # An empty bin takes the next full one's number, changed by the distance so that borrowing twice differs.
    places = np.flatnonzero(full)
    nearest = np.searchsorted(places, np.arange(PLACES))
    distance = (np.append(places, places[0] + PLACES)[nearest] - np.arange(PLACES)).astype(np.uint32)
    borrowed: Array = least[np.append(places, places[0])[nearest]] + distance * np.uint32(0x85EBCA6B)
    return borrowed


def band_keys(signatures: Array) -> Array:
    """(rows, 21): a number per band; rows that share one are candidates."""
    banded: Array = signatures[:, : BANDS * WIDTH].reshape(-1, BANDS, WIDTH).astype(np.uint64)
    keys: Array = (banded * _WEIGHTS).sum(axis=2, dtype=np.uint64)
    return keys ^ (keys >> np.uint64(31))


def alike(left: Array, right: Array) -> Array:
    """The estimated share of runs in common, row by row."""
    shares: Array = (left == right).mean(axis=1)
    return shares
