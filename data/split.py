"""Which rows are trained on and which validate: decided by the cluster alone, so the same on every machine and day."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from data.errors import DataError
from data.load import Row

VALIDATION_SHARE = 0.1


def is_validation(cluster_id: str, share: float = VALIDATION_SHARE) -> bool:
    """Whether a cluster validates. All paraphrases of one story fall on one side, and adding rows moves none."""
    digest = hashlib.sha256(f"split-1:{cluster_id}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def split(rows: Sequence[Row], share: float = VALIDATION_SHARE) -> tuple[list[Row], list[Row]]:
    """(train, validation), each in the order of `rows`. Raises DataError when one of them would be empty."""
    train = [row for row in rows if not is_validation(row["cluster_id"], share)]
    validation = [row for row in rows if is_validation(row["cluster_id"], share)]
    if not train or not validation:
        clusters = len({row["cluster_id"] for row in rows})
        raise DataError(
            f"{len(rows)} rows in {clusters} clusters leave {'nothing to train on' if not train else 'no validation'}; "
            "give more rows with more distinct cluster_id."
        )
    return train, validation
