"""Our CPU attention against exact arithmetic: what comes out, and all three gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training import cpu_attention
from training.cpu_attention import BLOCK, attention

NAMES = ("out", "query", "key", "value")


def exact(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, enable_gqa=True
    )


def both(heads: int, shared: int, tokens: int, size: int, dtype: torch.dtype) -> list[tuple[torch.Tensor, ...]]:
    """Output and gradients of ours in `dtype` and of exact attention in float64, pairwise."""
    torch.manual_seed(tokens)
    parts = [torch.randn(1, count, tokens, size, dtype=dtype) for count in (heads * shared, heads, heads)]
    above = torch.randn(1, heads * shared, tokens, size, dtype=dtype)
    found = []
    for how, kind in ((attention, dtype), (exact, torch.float64)):
        asked = [part.to(kind).requires_grad_() for part in parts]
        out = how(*asked, size**-0.5)
        found.append((out.detach(), *torch.autograd.grad(out, asked, above.to(kind))))
    return list(zip(*found, strict=True))


@settings(max_examples=25, deadline=None)
@given(
    heads=st.integers(1, 3),
    shared=st.integers(1, 3),
    tokens=st.one_of(st.integers(1, 9), st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 7])),
    size=st.sampled_from([4, 16]),
    kept=st.booleans(),
)
def test_in_float64_it_is_exact_for_any_number_of_tokens_and_heads(
    heads: int, shared: int, tokens: int, size: int, kept: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_attention, "KEPT", cpu_attention.KEPT if kept else 0)
        pairs = both(heads, shared, tokens, size, torch.float64)
    for name, (ours, right) in zip(NAMES, pairs, strict=True):
        # The gradients of keys and values are summed in float32.
        torch.testing.assert_close(ours, right, rtol=2e-5, atol=2e-5, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("tokens", [50, 700])
def test_in_bf16_it_is_off_by_no_more_than_bf16_rounds(tokens: int) -> None:
    for name, (ours, right) in zip(NAMES, both(3, 3, tokens, 64, torch.bfloat16), strict=True):
        off = (ours.double() - right).norm() / right.norm()
        assert off < 2**-7, f"{name} is {off:.4f} off"  # half a unit in the last place is 2**-9, a few roundings deep


def test_a_later_token_changes_nothing_before_it() -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(1, 2, 2 * BLOCK, 8, dtype=torch.bfloat16) for _ in range(3))
    before = attention(query, key, value, 1.0)
    key[:, :, -1], value[:, :, -1] = 9.0, 9.0
    after = attention(query, key, value, 1.0)
    assert torch.equal(before[:, :, :-1], after[:, :, :-1])
    assert not torch.equal(before[:, :, -1], after[:, :, -1])
