"""The store of shared prompt beginnings: what it plans is always a true prefix, and it stays within its budget."""

from hypothesis import given
from hypothesis import strategies as st
from prefixes import WORTH_IT, Prefix, PrefixStore, shared_length

TOKENS = st.lists(st.integers(0, 1), max_size=80)


@given(TOKENS, TOKENS)
def test_shared_length_is_the_common_beginning(a: list[int], b: list[int]) -> None:
    n = shared_length(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


STARTS = st.integers(0, 3).map(lambda k: [k] * (40 + 30 * k))
PROMPTS = st.lists(st.tuples(STARTS, TOKENS).map(lambda p: [*p[0], *p[1], 9]), min_size=1, max_size=12)


@given(PROMPTS, st.sampled_from([0, 50, 150, 4096]))
def test_plans_are_true_prefixes_within_the_budget(prompts: list[list[int]], budget: int) -> None:
    store = PrefixStore(budget)
    for prompt in prompts:
        prefix, length, worth = store.plan(prompt, prompts)
        assert max(length, worth) < len(prompt), "the last token must be computed: its logits are wanted"
        assert (prefix is None) == (length == 0)
        if prefix:
            assert prompt[:length] == prefix.tokens[:length]
        if worth:
            assert worth >= length + WORTH_IT
            store.keep(Prefix(prompt[:worth], [], []))
        assert sum(len(p.tokens) for p in store.kept) <= budget


def test_the_least_recently_shared_prefix_goes_first() -> None:
    store = PrefixStore(100)
    a, b, c = ([k] * 45 for k in range(3))
    store.keep(Prefix(a, [], []))
    store.keep(Prefix(b, [], []))
    store.plan([*a, 5], [])
    store.keep(Prefix(c, [], []))
    assert [p.tokens for p in store.kept] == [a, c]


def test_a_longer_prefix_replaces_its_own_beginning() -> None:
    store = PrefixStore(1000)
    store.keep(Prefix([1] * 40, [], []))
    store.keep(Prefix([1] * 90, [], []))
    assert [len(p.tokens) for p in store.kept] == [90]
    prefix, length, _ = store.plan([*[1] * 50, 2, 2], [])
    assert prefix is not None
    assert length == 50


def test_a_repeated_prompt_is_not_a_shared_one() -> None:
    store = PrefixStore(1000)
    prompt = [1] * 40 + [2] * 60
    assert store.plan(prompt, [list(prompt)])[2] == 0
    assert store.plan(list(prompt), [])[2] == 0
    assert store.plan([1] * 40 + [3] * 60, [])[2] == 40
