"""The split depends on the cluster alone: not on order, neighbours, process or machine."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.split import is_validation, split

Row = dict[str, Any]
CLUSTERS = st.lists(st.text(min_size=1), min_size=60, max_size=200, unique=True)


def test_the_split_of_known_clusters_never_changes() -> None:
    validating = [n for n in range(40) if is_validation(f"c-{n:04d}")]
    assert validating == [4, 6, 20, 24, 27, 33]


@given(clusters=CLUSTERS, seed=st.integers())
def test_order_and_other_rows_do_not_matter(clusters: list[str], seed: int) -> None:
    rows: list[Row] = [{"cluster_id": name, "copy": copy} for name in clusters for copy in (0, 1)]
    sides = {name: is_validation(name, 0.3) for name in clusters}
    random.Random(seed).shuffle(rows)
    if len(set(sides.values())) < 2:
        return
    train, validation = split(rows, 0.3)
    assert {row["cluster_id"] for row in train}.isdisjoint(row["cluster_id"] for row in validation)
    assert len(train) + len(validation) == len(rows)
    assert all(sides[row["cluster_id"]] for row in validation)
    assert [row for row in rows if row in train] == train


@given(cluster=st.text(), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_share_only_adds_clusters(cluster: str, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert not is_validation(cluster, low) or is_validation(cluster, high)
    assert not is_validation(cluster, 0.0)
    assert is_validation(cluster, 1.0)


def test_the_share_is_about_what_was_asked() -> None:
    assert 0.08 < sum(is_validation(f"cluster {n}") for n in range(5000)) / 5000 < 0.12


def test_an_empty_side_is_refused(make_ticket: Callable[..., Row]) -> None:
    with pytest.raises(DataError, match="1 clusters leave no validation"):
        split([make_ticket(0, cluster="c-0000"), make_ticket(1, cluster="c-0000")])
    with pytest.raises(DataError, match="nothing to train on"):
        split([make_ticket(0)], share=1.0)
