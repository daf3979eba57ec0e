"""Lays a model's weights out once for the matrix kernels of this machine, and computes together what has one input."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

TOGETHER = ("q_proj", "k_proj", "v_proj")  # each layer gives them the same input, in this order
MOST = 2048  # columns of a probe: a vocabulary's width changes nothing about it
FEW = 32  # rows of which every kernel met so far computes each alike, however many of them there are
PROBES = (2, 33, 64, 512)  # counts of rows to try: AMX kernels were seen to sum in another order from 33 on


class PackedLinear(nn.Module):
    """A bf16 Linear whose weight is laid out once for oneDNN, which otherwise reorders it in every call (×0.6 time;
    the same bits at SmolLM2's sizes, the last bit apart at others).

    Where the kernel's sums depend on how many rows there are (AMX), many rows are computed a few at a time: else an
    answer would depend on the prompts that came together with it. There a prompt then takes 1.3 to 1.7 times as long;
    keeping AMX off instead took 3 to 4 times as long, and decoding 1.4 times.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.bias, self.columns = bias, weight.shape[0]
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 16)
        self.whole = rows_are_alike(weight.shape[0], weight.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if self.whole or len(rows) <= FEW:
            return _product(x, self.weight, self.bias)
        parts = [_product(part, self.weight, self.bias) for part in rows.split(FEW)]
        return torch.cat(parts).view(*x.shape[:-1], self.columns)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@cache
def rows_are_alike(columns: int, width: int) -> bool:
    """Whether this machine computes a row of such a product to the same bit among many and among few."""
    dice = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, width, generator=dice).to(torch.bfloat16) for n in (max(PROBES), min(columns, MOST)))
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 16)
    few = torch.cat([_product(part, packed, None) for part in x.split(FEW)])
    return all(torch.equal(_product(x[:rows], packed, None), few[:rows]) for rows in PROBES)


class First(nn.Module):
    """The first of several Linears of one input computes them all: one product of 960 columns takes little more than
    half the time of three of 576, 192 and 192, and has the same bits."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        biases = [each.bias for each in linears if each.bias is not None]
        self.product = PackedLinear(torch.cat([each.weight for each in linears]), torch.cat(biases) if biases else None)
        self.sizes = [each.out_features for each in linears]
        self.input: Tensor | None = None
        self.parts: Sequence[Tensor] = ()

    def forward(self, x: Tensor) -> Tensor:
        self.input, self.parts = x, self.product(x).split(self.sizes, -1)
        return self.parts[0]


class Next(nn.Module):
    """Has its part from the first one; with another input it has it computed, so that a model with other habits is
    only slower."""

    def __init__(self, first: First, at: int) -> None:
        super().__init__()
        self.first, self.at = first, at

    def forward(self, x: Tensor) -> Tensor:
        if x is not self.first.input:
            self.first(x)
        return self.first.parts[self.at]


def pack_linears(model: nn.Module) -> bool:
    """Swap every Linear for a packed one where this machine can; False (and an untouched model) where it cannot."""
    linears = [c for m in model.modules() for _, c in m.named_children() if type(c) is nn.Linear]
    if not linears or any(c.weight.dtype != torch.bfloat16 or c.weight.device.type != "cpu" for c in linears):
        return False
    try:
        probe = linears[0]
        x = torch.ones(1, 1, probe.in_features, dtype=torch.bfloat16)
        if not torch.allclose(PackedLinear(probe.weight, probe.bias)(x), probe(x), rtol=2e-2, atol=2e-2):
            return False
    except (
        RuntimeError,
        AttributeError,
        NotImplementedError,
    ):  # another torch, or a CPU that cannot
        return False
    for parent in list(model.modules()):
        found = [getattr(parent, name, None) for name in TOGETHER]
        group = [each for each in found if isinstance(each, nn.Linear) and type(each) is nn.Linear]
        if len(group) == len(TOGETHER) and len({(c.in_features, c.bias is None) for c in group}) == 1:
            first = First(group)
            for at, name in enumerate(TOGETHER):
                setattr(parent, name, Next(first, at) if at else first)
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child.weight, child.bias))
    return True
