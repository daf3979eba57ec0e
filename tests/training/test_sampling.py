"""Batches of like length in random order: every example once, little padding, no trend in length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.sampling import ORDERS, OrderedSampler, grouped_order

LENGTHS = st.lists(st.integers(1, 500), max_size=200)


@given(name=st.sampled_from(sorted(ORDERS)), lengths=LENGTHS, batch=st.integers(1, 9), seed=st.integers(0, 9))
def test_every_example_comes_exactly_once_and_the_order_is_repeatable(
    name: str, lengths: list[int], batch: int, seed: int
) -> None:
    order = ORDERS[name](lengths, batch, seed)
    assert sorted(order) == list(range(len(lengths)))
    assert ORDERS[name](lengths, batch, seed) == order


def padded(order: list[int], lengths: list[int], batch: int) -> int:
    batches = [[lengths[i] for i in order[at : at + batch]] for at in range(0, len(order), batch)]
    return sum(max(b) * len(b) for b in batches)


def test_padding_is_low_and_lengths_have_no_trend() -> None:
    lengths = [40 + (n * 37) % 160 for n in range(1000)]
    order = grouped_order(lengths, 8, 1)
    assert padded(order, lengths, 8) < 1.08 * sum(lengths) < padded(list(range(1000)), lengths, 8)
    first_window = order[: 16 * 8]
    halves = [sum(lengths[i] for i in part) for part in (first_window[:64], first_window[64:])]
    assert 0.75 < halves[0] / halves[1] < 1.33  # sorted windows give 0.6 or 1.7


@pytest.mark.parametrize("name", ORDERS)
def test_each_epoch_has_an_order_of_its_own_and_each_run_the_same(name: str) -> None:
    lengths = [n % 50 for n in range(100)]
    sampler, again = OrderedSampler(name, lengths, 4, 1), OrderedSampler(name, lengths, 4, 1)
    first, second = list(sampler), list(sampler)
    assert first != second
    assert [list(again), list(again)] == [first, second]
    assert len(sampler) == 100
    again.set_epoch(1)  # as after a resume
    assert list(again) == second
