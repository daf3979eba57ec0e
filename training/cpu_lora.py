"""LoRA layers on a CPU: what the adapter adds goes into the product of the frozen weights, not beside it.

Peft multiplies by `scaling` and adds in passes of their own, forward and back; for a small model on a CPU these cost as
much as the adapter's products. The sum is rounded once instead of three times.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def fuse(model: Any) -> int:
    """Replaces the forward of each plain LoRA layer of `model` (one adapter, no dropout, one dtype, no bias, on a CPU).

    Returns how many it replaced; the others stay as peft made them.
    """
    from peft.tuners.lora import Linear

    layers = [layer for layer in model.modules() if isinstance(layer, Linear) and _is_plain(layer)]
    for layer in layers:
        layer.forward = types.MethodType(_forward, layer)
    return len(layers)


def _is_plain(layer: Any) -> bool:
    if len(layer.active_adapters) != 1 or layer.lora_variant or layer.base_layer.bias is not None:
        return False
    name = layer.active_adapters[0]
    weights = [layer.base_layer.weight, layer.lora_A[name].weight, layer.lora_B[name].weight]
    alike = {(weight.device.type, weight.dtype) for weight in weights} == {("cpu", torch.bfloat16)}
    frozen = not weights[0].requires_grad
    return alike and frozen and isinstance(layer.lora_dropout[name], torch.nn.Identity)


def _forward(self: Any, x: Tensor) -> Tensor:
    if self.disable_adapters or self.merged:
        return type(self).forward(self, x)
    name = self.active_adapters[0]
    down, up = self.lora_A[name].weight, self.lora_B[name].weight
    out = _Adapted.apply(x.flatten(0, -2), self.base_layer.weight, down, up, self.scaling[name])
    return out.unflatten(0, x.shape[:-1])


class _Adapted(torch.autograd.Function):
    """`x` (tokens, in), `weight` (out, in) frozen, `down` (rank, in), `up` (out, rank): (tokens, out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        narrow = x @ down.mT
        ctx.save_for_backward(x, weight, down, up, narrow)
        ctx.scale = scale
        return (x @ weight.mT).addmm_(narrow, up.mT, alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        x, weight, down, up, narrow = ctx.saved_tensors
        narrow_above = (above @ up).mul_(ctx.scale)
        to_x = (above @ weight).addmm_(narrow_above, down) if ctx.needs_input_grad[0] else None
        return to_x, None, narrow_above.mT @ x, (narrow.mT @ above).mT * ctx.scale, None
