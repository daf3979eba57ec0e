"""Chats that share a row learn what they would learn alone: same loss, same gradients, nothing seen of a neighbour."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.chat_data import IGNORED
from training.packing import flatten_rows, pack, packed

CAPACITY = 100


@given(st.lists(st.integers(1, CAPACITY), max_size=200))
def test_every_chat_is_in_exactly_one_row_that_holds_it(lengths: list[int]) -> None:
    rows = pack(lengths, CAPACITY)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    filled = [sum(lengths[index] for index in row) for row in rows]
    assert all(0 < fill <= CAPACITY for fill in filled)
    assert sum(fill <= CAPACITY // 2 for fill in filled) <= 1  # two half-empty rows would be one


def test_little_of_a_row_stays_empty() -> None:
    lengths = [10 + (n * 37) % 80 for n in range(1000)]
    assert sum(lengths) > 0.97 * CAPACITY * len(pack(lengths, CAPACITY))


def chats(lengths: list[int]) -> list[dict[str, list[int]]]:
    import torch

    generator = torch.Generator().manual_seed(3)
    made = []
    for length in lengths:
        ids = torch.randint(6, 300, (length,), generator=generator).tolist()
        made.append({"input_ids": ids, "labels": [IGNORED] * (length // 3) + ids[length // 3 :]})
    return made


def loss_and_gradient(model: Any, batches: list[dict[str, Any]]) -> tuple[float, Any]:
    model.zero_grad()
    total = 0.0
    for inputs in batches:
        loss = model(**inputs, use_cache=False, sparse_loss=True)["loss"]
        loss.backward()
        total += loss.item()
    return total, model.model.layers[0].self_attn.qkv_proj.weight.grad.clone()


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 12], ids=["all", "sliding"])
@pytest.mark.parametrize("attention", ["varlen", "sdpa", "eager"])
def test_packed_loss_equals_the_loss_of_each_chat_alone(attention: str, window: int | None, tiny_phi3: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from training.attention import register
    from training.step import add_sparse_loss

    register()
    examples = chats([30, 7, 41, 2, 19])
    rows = packed(examples, 64)
    assert len(rows) < len(examples)

    def model(kind: str) -> Any:
        made = AutoModelForCausalLM.from_pretrained(
            tiny_phi3, dtype=torch.float32, attn_implementation=kind, sliding_window=window
        )
        add_sparse_loss(made)
        return made

    alone = [{name: torch.tensor([values]) for name, values in example.items()} for example in examples]
    loss, gradient = loss_and_gradient(model("eager"), alone)
    together = model(attention)
    for batch in ([flatten_rows(rows)], [flatten_rows([row]) for row in rows]):
        packed_loss, packed_gradient = loss_and_gradient(together, batch)
        assert packed_loss == pytest.approx(loss, rel=1e-5)
        assert torch.allclose(packed_gradient, gradient, atol=1e-4 * gradient.abs().max())
    leaky = {"input_ids": flatten_rows(rows)["input_ids"], "labels": flatten_rows(rows)["labels"]}
    assert loss_and_gradient(together, [leaky])[0] != pytest.approx(loss, rel=1e-5)  # the test can tell
