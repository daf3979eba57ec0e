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
CONSTANTS = (
    ("step", TensorProto.FLOAT, 1 / 127), ("fine", TensorProto.FLOAT, 1 / 254), ("one", TensorProto.FLOAT, 1.0),
    ("middle", TensorProto.UINT8, 128), ("zero", TensorProto.UINT8, 128),
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

    A token of zeros has the scale 0: whatever it is rounded to, it is multiplied with 0 again.
    """
    graph.add("Abs", [x], [f"{name}.abs"])
    graph.add("ReduceMax", [f"{name}.abs", "last_axis"], [f"{name}.most"], keepdims=1)
    scale = graph.add("Mul", [f"{name}.most", "step"], [f"{name}.scale"])
    coarse = graph.add("Reshape", [scale, "one_axis"], [f"{name}.coarse"])
    high = graph.add("QuantizeLinear", [x, coarse, middles], [f"{name}.high"], axis=0)
    back = graph.add("DequantizeLinear", [high, coarse, middles], [f"{name}.back"], axis=0)
    left = graph.add("Sub", [x, back], [f"{name}.left"])
    fine = graph.add("Mul", [coarse, "fine"], [f"{name}.fine"])
    low = graph.add("QuantizeLinear", [left, fine, middles], [f"{name}.low"], axis=0)
    both = graph.add("Concat", [high, low], [f"{name}.both"], axis=0)
    weight = graph.keep(f"{name}.weight", (packed.values.squeeze(1).to(torch.int16) - 128).to(torch.int8).T)
    inputs = [both, weight, "one", graph.keep(f"{name}.scales", packed.scales.squeeze(1)), "zero"]
    graph.add("MatMulIntegerToFloat", inputs, [f"{name}.products"], CONTRIB)
    graph.add("Split", [f"{name}.products"], [f"{name}.of_high", f"{name}.of_low"], axis=0, num_outputs=2)
    graph.add("Mul", [f"{name}.of_low", "fine"], [f"{name}.of_low_scaled"])
    graph.add("Add", [f"{name}.of_high", f"{name}.of_low_scaled"], [f"{name}.sum"])
    return graph.add("Mul", [f"{name}.sum", scale], [name])


def save_probe(path: Path) -> None:
    """One product of the largest bytes. Processors without VNNI instructions add them up in 16 bits, which are too few,
    and say nothing; serving asks this before it answers anybody."""
    most = helper.make_tensor("most", TensorProto.INT8, [64, 1], [127] * 64)
    node = helper.make_node("MatMulInteger", ["bytes", "most"], ["sum"])
    places = (("bytes", TensorProto.UINT8, [1, 64]), ("sum", TensorProto.INT32, [1, 1]))
    given, told = (helper.make_tensor_value_info(*place) for place in places)
    made = helper.make_graph([node], "probe", [given], [told], [most])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
