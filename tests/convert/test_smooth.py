"""Smoothing changes no answer of the source, and makes the channels of its activations more alike."""

from typing import Any

import pytest
import torch

from convert.smooth import _first_matrices, _largest, smooth
from tests.serving.tiny_models import make_model

CHATS = [[1, 2, 3, 4, 5, 6, 7, 8], [20, 30, 40, 50]]


def uneven(kind: str, **changes: Any) -> Any:
    """A model two of whose channels are far larger than the rest, as in trained ones."""
    model = make_model(kind, hidden_size=64, intermediate_size=96, **changes)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.input_layernorm.weight[3] = 60.0
            layer.post_attention_layernorm.weight[5] = 60.0
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "changes"), [("llama", {}), ("phi3", {}), ("llama", {"tie_word_embeddings": True})])
def test_no_answer_changes_and_channels_are_more_alike(kind: str, changes: dict[str, Any], dtype: torch.dtype) -> None:
    model, ids = uneven(kind, **changes).to(dtype), torch.tensor(CHATS[:1])
    watched = [_first_matrices(layer, kind == "phi3") for layer in model.model.layers]
    with torch.no_grad():
        before, embedding = model(ids).logits, model.get_input_embeddings().weight.clone()
        spread = [[float(each.max() / each.median()) for each in found] for found in _largest(model, watched, CHATS)]
        smooth(model, CHATS, 0.5)
        after = model(ids).logits
        now = [[float(each.max() / each.median()) for each in found] for found in _largest(model, watched, CHATS)]
    # Factors are powers of two: what differs is the order in which sums are rounded.
    torch.testing.assert_close(after, before, rtol=1e-4 if dtype == torch.float32 else 0.05, atol=1e-4 if dtype ==
                               torch.float32 else 0.05 * float(before.abs().max()))  # fmt: skip
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    assert all(new[0] < old[0] / 3 and new[1] < old[1] / 3 for new, old in zip(now, spread, strict=True))


def test_a_strength_of_nothing_leaves_every_weight() -> None:
    model, same = uneven("llama"), uneven("llama")
    smooth(model, CHATS, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
