"""Which conversations a judge is given: at most so many, by chance, the same ones every time."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from scripts.operate.judge import Conversation, Message, drawn
from scripts.operate.judged import Judged

QUESTION = [Message(role="user", content="Where is it?")]


def conversations(names: list[str]) -> list[Conversation]:
    return [Conversation(id=name, model="m:1", messages=QUESTION, answer="Here.") for name in names]


names = st.lists(st.uuids().map(str), max_size=40)


@given(names, st.integers(1, 50), st.randoms())
def test_the_same_ones_in_whatever_order_and_each_once(ids: list[str], most: int, random: Random) -> None:
    first, kept = drawn(conversations(ids), most)
    assert len(first) == min(most, len(set(ids)))
    assert kept == len(set(ids))
    again = [*ids, *ids]
    random.shuffle(again)
    assert drawn(conversations(again), most) == (first, kept)


@given(names, st.integers(1, 49))
def test_a_larger_sample_keeps_the_smaller_one(ids: list[str], most: int) -> None:
    """So that raising `rows` pays for no grade twice."""
    smaller, larger = (drawn(conversations(ids), number)[0] for number in (most, most + 1))
    assert larger[: len(smaller)] == smaller


def test_a_sample_counts_only_when_all_of_it_has_a_grade() -> None:
    told = {"model": "m:1", "window": "w", "judge_digest": "d", "metric": "fluency", "kept": 9}
    assert Judged(**told, sample=2, grades={"a": 1.0, "b": 5.0}).complete
    assert not Judged(**told, sample=2, grades={"a": 5.0}).complete
    assert not Judged(**told, sample=0, grades={}).complete
