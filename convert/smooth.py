"""Moves what is hard to round from activations into weights, before a model is rounded. Changes no answer by itself.

A few channels of an activation are tens of times larger than the rest, and where a token has one scale, the rest is
rounded to little. Such a channel is divided by a factor, and the column of the matrix that it meets is multiplied by
it. Factors are powers of two, so that in bfloat16 too nothing is lost (Xiao et al., SmoothQuant, 2022, have the idea).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convert.graph import layout


@torch.no_grad()
def smooth(model: Any, chats: Sequence[Sequence[int]], strength: float) -> None:
    """Change the weights of a Llama or Phi-3 in place. `chats`: token ids of some that it will be asked the like of.

    `strength`: 0 leaves all as it is, 1 makes all channels of an activation equally large.
    """
    if not strength:
        return
    phi3, layers, head = layout(model) == "phi3", model.model.layers, model.get_output_embeddings()
    groups = [*(_first_matrices(layer, phi3) for layer in layers), (head,)]
    *largest, (scores,) = _largest(model, groups, chats)
    for layer, (attention, gate, down) in zip(layers, largest, strict=True):
        first = layer.self_attn
        qkv = [first.qkv_proj] if phi3 else [first.q_proj, first.k_proj, first.v_proj]
        _divide(layer.input_layernorm.weight, qkv, attention, strength)
        both = [layer.mlp.gate_up_proj] if phi3 else [layer.mlp.gate_proj, layer.mlp.up_proj]
        _divide(layer.post_attention_layernorm.weight, both, gate, strength)
        up = layer.mlp.gate_up_proj.weight.chunk(2)[1] if phi3 else layer.mlp.up_proj.weight
        _divide(up, [layer.mlp.down_proj], down, strength)
    head.weight = nn.Parameter(head.weight.clone())  # it may be the embedding too, which stays
    model.config.tie_word_embeddings = False
    _divide(model.model.norm.weight, [head], scores, strength)


def _first_matrices(layer: Any, phi3: bool) -> tuple[nn.Module, ...]:
    attention, mlp = layer.self_attn, layer.mlp
    return (attention.qkv_proj, mlp.gate_up_proj, mlp.down_proj) if phi3 else (
        attention.q_proj, mlp.gate_proj, mlp.down_proj)  # fmt: skip


def _largest(model: Any, groups: Sequence[tuple[nn.Module, ...]], chats: Sequence[Sequence[int]]) -> list[list[Tensor]]:
    """The largest absolute value of each input channel of each module, over all chats."""
    seen: list[list[Tensor]] = [[torch.zeros(1)] * len(group) for group in groups]

    def watch(i: int, j: int) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[i][j] = torch.maximum(seen[i][j], inputs[0].float().abs().flatten(0, -2).amax(0))

        return hook

    hooks = [m.register_forward_pre_hook(watch(i, j)) for i, group in enumerate(groups) for j, m in enumerate(group)]
    for tokens in chats:
        model(torch.tensor([list(tokens)]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


def _divide(before: Tensor, matrices: Sequence[Any], largest: Tensor, strength: float) -> None:
    """Divide the channels that `before` makes (its rows), multiply the columns that they meet."""
    columns = torch.stack([matrix.weight.float().abs().amax(0) for matrix in matrices]).amax(0)
    wanted = largest.clamp(min=1e-5) ** strength / columns.clamp(min=1e-5) ** (1 - strength)
    factor = torch.exp2(wanted.log2().round())
    before.div_(factor.view(-1, *[1] * (before.dim() - 1)))
    for matrix in matrices:
        matrix.weight.mul_(factor)
