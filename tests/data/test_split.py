"""The split depends on the duplicate cluster alone: not on order, neighbours, process or machine."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.clusters import components, first_with_same
from data.errors import DataError
from data.load import read_jsonl
from data.prepare import prepare
from data.split import draw, draws_of, is_validation, places

Row = dict[str, Any]


def test_the_split_of_known_clusters_never_changes() -> None:
    validating = [n for n in range(40) if is_validation(f"c-{n:04d}")]
    assert validating == [4, 6, 20, 24, 27, 33]


@given(cluster=st.text(), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_share_only_adds_clusters(cluster: str, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert not is_validation(cluster, low) or is_validation(cluster, high)
    assert not is_validation(cluster, 0.0)
    assert is_validation(cluster, 1.0)


def test_the_shares_are_about_what_was_asked_and_three_ways_extend_two() -> None:
    draws = np.array([draw(f"cluster {n}") for n in range(5000)], np.uint64)
    three, two = places(draws, 0.1, 0.1), places(draws, 0.1, 0.0)
    assert np.abs(np.bincount(three) / 5000 - [0.8, 0.1, 0.1]).max() < 0.02
    assert ((three == 1) == (two == 1)).all()
    assert [bool(one) for one in two == 1] == [is_validation(f"cluster {n}") for n in range(5000)]


@given(edges=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))), seed=st.integers())
def test_components_are_what_union_find_says_whatever_the_order(edges: list[tuple[int, int]], seed: int) -> None:
    parent = list(range(31))
    for edge in edges:
        first, second = sorted(parent[end] for end in edge)
        parent = [first if one == second else one for one in parent]
    random.Random(seed).shuffle(edges)
    pairs = np.array(edges, np.int64).reshape(-1, 2)
    assert components(31, pairs[:, 0], pairs[:, 1]).tolist() == parent


@given(keys=st.lists(st.integers(0, 5)))
def test_the_first_row_with_the_same_key(keys: list[int]) -> None:
    expected = [at if key == 0 else keys.index(key) for at, key in enumerate(keys)]
    assert first_with_same(np.array(keys, np.uint64)).tolist() == expected


@given(names=st.lists(st.integers(0, 40), min_size=1), seed=st.integers())
def test_one_cluster_keeps_its_draw_and_joined_ones_share_one_of_theirs(names: list[int], seed: int) -> None:
    draws = np.array([draw(str(name)) for name in names], np.uint64)
    labels = np.array([names.index(name) for name in names])
    assert draws_of(labels, draws).tolist() == draws.tolist()
    joined = draws_of(np.zeros(len(names), np.int64), draws)
    assert len(set(joined.tolist())) == 1
    assert joined[0] in draws
    order = np.random.default_rng(abs(seed)).permutation(len(names))
    assert draws_of(np.zeros(len(names), np.int64), draws[order])[0] == joined[0]


def test_near_duplicates_of_other_clusters_fall_on_one_side(
    make_ticket: Callable[..., Row], write: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [make_ticket(n) for n in range(80)]
    for row in rows[:40]:
        text = json.dumps(row["messages"]).replace("charged twice", "charged thrice")
        again = f"again-{row['id']}"
        rows.append({"id": again, "cluster_id": again, "messages": json.loads(text)})
    random.Random(1).shuffle(rows)
    made = prepare(write(tmp_path / "pool.jsonl", rows), None, tmp_path / "out", "tickets")
    sides = {row["id"]: split for split, file in made.files.items() for row in read_jsonl(tmp_path / "out" / file.path)}
    assert len(sides) == 120
    assert set(sides.values()) == {"train", "validation", "heldout"}
    assert all(sides[f"t-{n:05d}"] == sides[f"again-t-{n:05d}"] for n in range(40))
    assert next(check.count for check in made.checks if check.code == "near_duplicate") == 40


def test_an_empty_side_is_refused(make_ticket: Callable[..., Row], write: Callable[..., Path], tmp_path: Path) -> None:
    gate = write(tmp_path / "gate.jsonl", [make_ticket(7)])
    two = write(tmp_path / "two.jsonl", [make_ticket(0, cluster="c-0000"), make_ticket(1, cluster="c-0000")])
    with pytest.raises(DataError, match="2 rows in 1 clusters leave no validation"):
        prepare(two, gate, tmp_path / "out", "tickets")
    one = write(tmp_path / "one.jsonl", [make_ticket(0, cluster="c-0004")])
    with pytest.raises(DataError, match="nothing to train on"):
        prepare(one, gate, tmp_path / "out", "tickets")
