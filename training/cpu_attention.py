"""Causal attention of one chat in bf16 on a CPU: half the time of torch's own there, and no more memory.

Torch's CPU kernel reaches a fifth of what its matrix products do. Here a block of queries meets all keys before it in
one product, and heads that share keys (grouped queries) share the product too. For a chat of
usual length the shares are kept for the way back; of a long one they live for one block at a time and are made again.
Probabilities are bf16, so gradients are as far from exact ones as bf16 itself
(tests/training/test_cpu_attention.py).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 128  # queries at once; 64 and 192 were slower at 1,226 and at 2,500 tokens
# Shares of a chat and layer that are kept, heads × tokens². For the demo's model that is up to 1,365 tokens, and at
# most half of what its other layers keep; the way back then needs a quarter less time.
KEPT = 2**24


def attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """`query` (1, heads, tokens, size), `key` and `value` with as many heads or fewer; the same shape as `query`."""
    return _Attention.apply(query[0], key[0], value[0], scale)[None]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        scaled = (query * scale).unflatten(0, (len(key), -1))  # (groups, heads that share keys, tokens, size)
        out = torch.empty_like(scaled)
        keep = query.shape[0] * query.shape[1] ** 2 <= KEPT and any(ctx.needs_input_grad)
        kept = []
        for start, stop in _blocks(scaled):
            shares = _shares(scaled, key, start, stop)
            out[:, :, start:stop] = _as(scaled, torch.bmm(shares, value[:, :stop]))
            kept += [shares] * keep
        ctx.save_for_backward(scaled, key, value, out, *kept)
        ctx.scale = scale
        return out.flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        scaled, key, value, out, *kept = ctx.saved_tensors
        above = above.reshape(scaled.shape)
        # What softmax's derivative takes off: the mean of the gradient under the shares, which is that of the output.
        mean = (above.float() * out.float()).sum(-1, keepdim=True).to(above.dtype)
        to_query = torch.empty_like(scaled)
        to_key, to_value = (torch.zeros(each.shape, dtype=torch.float32) for each in (key, value))
        for number, (start, stop) in enumerate(_blocks(scaled)):
            shares = kept[number] if kept else _shares(scaled, key, start, stop)
            asked, given = (each[:, :, start:stop].flatten(1, 2) for each in (scaled, above))
            to_value[:, :stop] += torch.bmm(shares.mT, given)
            slope = torch.bmm(given, value[:, :stop].mT)
            slope.sub_(mean[:, :, start:stop].flatten(1, 2)).mul_(shares)
            to_query[:, :, start:stop] = _as(scaled, torch.bmm(slope, key[:, :stop]))
            to_key[:, :stop] += torch.bmm(slope.mT, asked)
        return (to_query * ctx.scale).flatten(0, 1), to_key.to(key.dtype), to_value.to(value.dtype), None


def _blocks(scaled: Tensor) -> list[tuple[int, int]]:
    length = scaled.shape[2]
    return [(start, min(length, start + BLOCK)) for start in range(0, length, BLOCK)]


def _as(scaled: Tensor, rows: Tensor) -> Tensor:
    """A product's rows (groups, heads × block, size) as (groups, heads, block, size)."""
    return rows.unflatten(1, (scaled.shape[1], -1))


def _shares(scaled: Tensor, key: Tensor, start: int, stop: int) -> Tensor:
    """How a block of queries spreads over the keys up to its end: (groups, heads × block, stop), no later key seen."""
    scores = torch.bmm(scaled[:, :, start:stop].flatten(1, 2), key[:, :stop].mT)
    _as(scaled, scores)[..., start:].add_(_later(scores.dtype)[: stop - start, : stop - start])
    return scores.softmax(-1)


@functools.cache
def _later(dtype: torch.dtype) -> Tensor:
    """What takes the keys of a block that come after a query out of its shares: (queries, keys)."""
    return torch.full((BLOCK, BLOCK), float("-inf"), dtype=dtype).triu_(1)
