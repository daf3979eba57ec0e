"""How the graph multiplies with a matrix of few bits, which is nearly all of the work and all of the loss.

Blocks: onnxruntime's own MatMulNBits, for any processor. Rows: one integer product over whole rows, which processors
compute several times faster for many tokens. A token's largest channel is tens of times its usual one, so that eight
bits for all would leave the usual ones little: what eight bits leave over is kept in eight more, and both are rows of
the same product. It reads each weight once, and reading them is what a single token waits for.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

from convert.blocks import Packed, pack
from convert.nodes import CONTRIB, Graph
from convert.recipe import Recipe, Weights

PROBE = "probe.onnx"
# What is left over is at most half a step, and its 127 steps each way cover just that.
FINE = 1 / 254
CONSTANTS: tuple[tuple[str, int, list[int], list[float]], ...] = (
    ("step", TensorProto.FLOAT, [], [1 / 127]), ("fine", TensorProto.FLOAT, [], [FINE]),
    ("shares", TensorProto.FLOAT, [1, 1, 2], [1.0, FINE]), ("one", TensorProto.FLOAT, [], [1.0]),
    ("middle", TensorProto.UINT8, [], [128]), ("zero", TensorProto.UINT8, [], [128]),
)  # fmt: skip


def multiply(
    graph: Graph, name: str, x: str, matrix: Tensor, how: Weights, recipe: Recipe, middles: str = "middles"
) -> str:
    """x @ matrix.T, with the matrix kept as the recipe says. `middles`: the middle of a byte for each row of x."""
    if how.bits == 32:
        return graph.add("MatMul", [x, graph.keep(f"{name}.weight", matrix.float().T)], [name])
    packed = pack(matrix, how)
    if how.block is None:
        return _by_rows(graph, name, x, packed, middles)
    inputs = [x, graph.keep(f"{name}.weight", packed.values.view(*packed.scales.shape, -1))]
    inputs.append(graph.keep(f"{name}.scales", packed.scales))
    if packed.zeros is not None:
        inputs.append(graph.keep(f"{name}.zeros", packed.zeros))
    rows, columns = matrix.shape
    return graph.add(
        "MatMulNBits", inputs, [name], CONTRIB, K=columns, N=rows, bits=how.bits, block_size=how.block,
        accuracy_level=4 if recipe.activations == "int8" else 1,
    )  # fmt: skip


def _by_rows(graph: Graph, name: str, x: str, packed: Packed, middles: str) -> str:
    """Whole rows share a scale, of the matrix and of x, so a token's result does not depend on its neighbours.

    A token's two bytes are neighbouring rows of the product, and one small product adds them up in its scale. A token
    of zeros has the scale 0: whatever it is rounded to, it is multiplied with 0 again.
    """
    rows, columns = len(packed.scales), packed.values.shape[1:].numel()
    graph.add("Abs", [x], [f"{name}.abs"])
    graph.add("ReduceMax", [f"{name}.abs", graph.shape(-1)], [f"{name}.most"], keepdims=0)
    coarse = graph.add("Mul", [f"{name}.most", "step"], [f"{name}.coarse"])
    fine = graph.add("Mul", [coarse, "fine"], [f"{name}.fine"])
    high = graph.add("QuantizeLinear", [x, coarse, middles], [f"{name}.high"], axis=0)
    back = graph.add("DequantizeLinear", [high, coarse, middles], [f"{name}.back"], axis=0)
    left = graph.add("Sub", [x, back], [f"{name}.left"])
    low = graph.add("QuantizeLinear", [left, fine, middles], [f"{name}.low"], axis=0)
    graph.add("Concat", [high, low], [f"{name}.both"], axis=1)
    graph.add("Reshape", [f"{name}.both", graph.shape(-1, columns)], [f"{name}.bytes"])
    weight = graph.keep(f"{name}.weight", (packed.values.squeeze(1).to(torch.int16) - 128).to(torch.int8).T)
    inputs = [f"{name}.bytes", weight, "one", graph.keep(f"{name}.scales", packed.scales.squeeze(1)), "zero"]
    graph.add("MatMulIntegerToFloat", inputs, [f"{name}.products"], CONTRIB)
    graph.add("Reshape", [f"{name}.products", graph.shape(-1, 2, rows)], [f"{name}.pairs"])
    graph.add("Reshape", [coarse, graph.shape(-1, 1, 1)], [f"{name}.coarse_alone"])
    graph.add("Mul", [f"{name}.coarse_alone", "shares"], [f"{name}.scale"])
    graph.add("MatMul", [f"{name}.scale", f"{name}.pairs"], [f"{name}.sum"])
    return graph.add("Reshape", [f"{name}.sum", graph.shape(-1, rows)], [name])


def save_probe(path: Path) -> None:
    """One product of the largest bytes. Processors without VNNI instructions add them up in 16 bits, which are too few,
    and say nothing; serving asks this before it answers anybody."""
    most = helper.make_tensor("most", TensorProto.INT8, [64, 1], [127] * 64)
    node = helper.make_node("MatMulInteger", ["bytes", "most"], ["sum"])
    places = (("bytes", TensorProto.UINT8, [1, 64]), ("sum", TensorProto.INT32, [1, 1]))
    given, told = (helper.make_tensor_value_info(*place) for place in places)
    made = helper.make_graph([node], "probe", [given], [told], [most])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
