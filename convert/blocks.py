"""Rounds a matrix to few bits in blocks along its rows, in the layout of onnxruntime's MatMulNBits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convert.recipe import Weights

NARROWEST = 0.6  # of a block's full range: the least that the search tries
ROWS_AT_ONCE = 4096  # bounds memory: the search keeps a few copies of the rows it works on


@dataclass(frozen=True)
class Packed:
    values: Tensor  # uint8 (rows, blocks, bytes of a block), the first weight in the low bits
    scales: Tensor  # float32 (rows, blocks)
    zeros: Tensor | None  # uint8 (rows, bytes), packed like the values; None: the middle of the range


def pack(matrix: Tensor, how: Weights) -> Packed:
    """`matrix` (rows, columns) rounded; `columns` must be a multiple of the block. Raises ValueError when it is not."""
    columns = matrix.shape[1]
    block = how.block or columns
    if columns % block:
        raise ValueError(f"{columns} columns are no multiple of the block of {block}")
    parts = [_rounded(part.float().view(len(part), -1, block), how) for part in matrix.split(ROWS_AT_ONCE)]
    values, scales, zeros = (torch.cat(each) for each in zip(*parts, strict=True))
    return Packed(_bytes(values, how.bits), scales, None if how.symmetric else _bytes(zeros, how.bits))


def unpack(packed: Packed, how: Weights) -> Tensor:
    """The matrix that the bytes stand for (rows, columns), in float32."""
    values = _numbers(packed.values, how.bits)
    blocks = packed.scales.shape[1]
    zeros = 2 ** (how.bits - 1) if packed.zeros is None else _numbers(packed.zeros, how.bits)[:, :blocks, None]
    return ((values.float() - zeros) * packed.scales[..., None]).flatten(1)


def _rounded(blocks: Tensor, how: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """(values, scales, zeros) with the least squared error among `how.search` ranges of each block."""
    most = 2**how.bits - 1
    low, high = blocks.amin(-1).clamp(max=0), blocks.amax(-1).clamp(min=0)
    if how.symmetric:
        high = torch.maximum(-low, high)
    best: list[Tensor] = []
    for step in range(how.search):
        share = 1 - (1 - NARROWEST) * step / how.search
        # Symmetric ranges leave the lowest value unused, so that zero is exactly the middle.
        scale = share * (high / (most // 2) if how.symmetric else (high - low) / most)
        scale = torch.where(scale > 0, scale, 1.0)
        zero = torch.full_like(scale, most // 2 + 1) if how.symmetric else (-low * share / scale).round().clamp(0, most)
        values = ((blocks / scale[..., None]).round() + zero[..., None]).clamp(0, most)
        error = (((values - zero[..., None]) * scale[..., None] - blocks) ** 2).sum(-1)
        found = [values, scale, zero, error]
        if best:
            better = error < best[3]
            found = [torch.where(better[..., None] if n.dim() > better.dim() else better, n, o)
                     for n, o in zip(found, best, strict=True)]  # fmt: skip
        best = found
    return best[0].to(torch.uint8), best[1], best[2].to(torch.uint8)


def _bytes(numbers: Tensor, bits: int) -> Tensor:
    if bits == 8:
        return numbers
    if numbers.shape[-1] % 2:
        numbers = torch.nn.functional.pad(numbers, (0, 1))
    return numbers[..., ::2] | (numbers[..., 1::2] << 4)


def _numbers(packed: Tensor, bits: int) -> Tensor:
    return packed if bits == 8 else torch.stack([packed & 15, packed >> 4], -1).flatten(-2)
