"""Attention over chats that lie one after the other in one row, where none may see another: `attention: varlen`.

On a GPU it is the variable-length FlashAttention that torch brings along, so that no package has to be built. Elsewhere
each chat is a call of its own: nothing is computed for padding or across chats; in bf16 it is ours (cpu_attention.py),
which is twice as fast as torch's there. Phi-3's `sliding_window` is kept.
"""

from __future__ import annotations

from typing import Any

NAME = "varlen"


def register() -> None:
    """Makes `attn_implementation="varlen"` known to transformers, which then makes no mask for it."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


def attend(
    module: Any,  # noqa: ARG001
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,  # noqa: ARG001 (there is none for this attention: the boundaries say it all)
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Any = None,
    max_length_q: int | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Causal attention of `query` (1, heads, tokens, size) within the chats that `cu_seq_lens_q` bounds.

    Without bounds each row is one chat; padding on its right is computed and has no effect on what comes before it.
    """
    import torch

    groups = query.shape[1] // key.shape[1]
    if torch.is_autocast_enabled(query.device.type):  # rotary positions made fp32 of what the products gave as bf16
        half = torch.get_autocast_dtype(query.device.type)
        query, key, value = (each.to(half) for each in (query, key, value))
    if query.is_cuda and cu_seq_lens_q is not None:
        from torch.nn.attention.varlen import varlen_attn

        tokens = [each[0].transpose(0, 1).contiguous() for each in (query, key, value)]
        longest = int(max_length_q or query.shape[2])
        window = (sliding_window - 1 if sliding_window and sliding_window < longest else -1, 0)
        bounds = (cu_seq_lens_q, cu_seq_lens_q, longest, longest)
        return varlen_attn(*tokens, *bounds, scale=scaling, window_size=window, enable_gqa=groups > 1)[None], None
    sizes = [query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.diff().tolist()
    chats = zip(*(each.split(sizes, dim=2) for each in (query, key, value)), strict=True)  # backward: no zeros to fill
    scale = scaling or query.shape[-1] ** -0.5
    parts = [_one_chat(chat, dropout, scale, sliding_window) for chat in chats]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
    return whole.transpose(1, 2).contiguous(), None


def _one_chat(parts: tuple[Any, ...], dropout: float, scale: float, window: int | None) -> Any:
    import torch

    (rows, heads, length, _), mask = parts[0].shape, None
    windowed = window is not None and 0 < window < length
    if rows == 1 and parts[0].device.type == "cpu" and parts[0].dtype == torch.bfloat16 and not (dropout or windowed):
        from training.cpu_attention import attention

        return attention(parts[0], parts[1], parts[2], scale)
    if windowed:
        distance = torch.arange(length)[:, None] - torch.arange(length)[None]
        mask = ((distance >= 0) & (distance < window)).to(parts[0].device)
    return torch.nn.functional.scaled_dot_product_attention(
        *parts,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=heads != parts[1].shape[1],
    )
