"""The ONNX graph of a Llama or Phi-3 model, made node by node from a loaded transformers model.

Why not a general exporter: it writes attention as it is computed on a GPU, over a cache that is copied at every token.
Here each layer is one GroupQueryAttention that writes to rows of a buffer in place; each row has its own length, and
new tokens may be padded on the right. Weights go to the data file as they are made, so memory holds one matrix at a
time beside the source.

Inputs, with R rows of S new tokens each (padding included):
  ids (R, S) · new (R) tokens without padding · last (R) = length of each row afterwards − 1 ·
  longest () = the largest of these lengths ·
  wanted (W): which of the R × S places get scores · past_LAYER_key/value (R, heads, columns, size)
Outputs: scores (W, vocabulary) · present_LAYER_key/value, to be bound to the same memory as the past.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

from convert.blocks import Packed, pack
from convert.errors import ConvertError
from convert.recipe import Recipe, Weights

MODEL, DATA, PROBE = "model.onnx", "model.onnx.data", "probe.onnx"
PAGE = 4096  # the runtime maps the data file into memory, tensor by tensor
KINDS = {"LlamaForCausalLM": "llama", "Phi3ForCausalLM": "phi3"}
TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8,
}  # fmt: skip
CONTRIB = "com.microsoft"


class Graph:
    """Nodes and weights in the order they are made."""

    def __init__(self, data: BinaryIO) -> None:
        self.data = data
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def keep(self, name: str, tensor: Tensor) -> str:
        """Write a tensor to the data file; bfloat16 stays what it is."""
        tensor = tensor.detach().contiguous()
        if tensor.dtype == torch.bfloat16:
            kind, content = TensorProto.BFLOAT16, tensor.view(torch.uint16).numpy()
        else:
            content = tensor.numpy()
            kind = TYPES[content.dtype]
        self.data.write(b"\0" * (-self.data.tell() % PAGE))
        proto = TensorProto(name=name, data_type=kind, dims=list(tensor.shape), data_location=TensorProto.EXTERNAL)
        for key, value in (("location", DATA), ("offset", self.data.tell()), ("length", content.nbytes)):
            proto.external_data.add(key=key, value=str(value))
        self.data.write(content.data)
        self.weights.append(proto)
        return name

    def multiply(self, name: str, x: str, matrix: Tensor, how: Weights, int8: bool, middles: str = "middles") -> str:
        """x @ matrix.T, with the matrix kept as the recipe says. `middles`: the middle of a byte for each row of x."""
        if how.bits == 32:
            return self.add("MatMul", [x, self.keep(f"{name}.weight", matrix.float().T)], [name])
        packed = pack(matrix, how)
        if how.block is None:
            return self._by_rows(name, x, packed, middles)
        inputs = [x, self.keep(f"{name}.weight", packed.values.view(*packed.scales.shape, -1))]
        inputs.append(self.keep(f"{name}.scales", packed.scales))
        if packed.zeros is not None:
            inputs.append(self.keep(f"{name}.zeros", packed.zeros))
        rows, columns = matrix.shape
        return self.add(
            "MatMulNBits", inputs, [name], CONTRIB,
            K=columns, N=rows, bits=how.bits, block_size=how.block, accuracy_level=4 if int8 else 1,
        )  # fmt: skip

    def _by_rows(self, name: str, x: str, packed: Packed, middles: str) -> str:
        """The same with whole rows that share a scale, of the matrix and of x: integer products, which large batches
        and long prompts need. Each token has its own scale, so its result does not depend on its neighbours.

        A token of zeros has the scale 0: whatever it is rounded to, it is multiplied with 0 again.
        """
        self.add("Abs", [x], [f"{name}.abs"])
        self.add("ReduceMax", [f"{name}.abs", "last_axis"], [f"{name}.most"], keepdims=1)
        scale = self.add("Mul", [f"{name}.most", "step"], [f"{name}.scale"])
        self.add("Reshape", [scale, "one_axis"], [f"{name}.scale1"])
        self.add("QuantizeLinear", [x, f"{name}.scale1", middles], [f"{name}.int8"], axis=0)
        weight = self.keep(f"{name}.weight", (packed.values.squeeze(1).to(torch.int16) - 128).to(torch.int8).T)
        inputs = [f"{name}.int8", weight, "one", self.keep(f"{name}.scales", packed.scales.squeeze(1)), "zero"]
        self.add("MatMulIntegerToFloat", inputs, [f"{name}.product"], CONTRIB)
        return self.add("Mul", [f"{name}.product", scale], [name])


def layout(model: Any) -> str:
    """`llama` or `phi3`. Raises ConvertError for a model that this graph would not compute rightly."""
    config = model.config
    kind = KINDS.get(type(model).__name__)
    if kind is None:
        raise ConvertError(f"{type(model).__name__} cannot be converted; known are {', '.join(KINDS)}.")
    if config.hidden_act != "silu":
        raise ConvertError(f"The activation {config.hidden_act} cannot be converted; known is silu.")
    if biased := [name for name, _ in model.named_parameters() if name.endswith(".bias")]:
        raise ConvertError(f"The model's matrices have biases ({biased[0]}), which cannot be converted.")
    size, turned = head_size(config), _rotations(model, 1)[0].shape[1]
    if size % 16 or turned % 8:
        raise ConvertError(
            f"Heads of {size}, of which {2 * turned} are rotated, cannot be converted; both must be multiples of 16."
        )
    return kind


def head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def write(model: Any, recipe: Recipe, folder: Path, context: int) -> None:
    """Write model.onnx and its data file for a model whose rows hold at most `context` tokens. Raises ConvertError."""
    kind, config = layout(model), model.config
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    size = head_size(config)
    block = max((how.block or 1 for how in (recipe.body, recipe.head) if how.bits < 32), default=1)
    for columns in (config.hidden_size, config.intermediate_size, heads * size):
        if columns % block:
            raise ConvertError(f"A matrix of {columns} columns has no whole blocks of {block}; choose a smaller block.")
    with (folder / DATA).open("wb") as data, torch.no_grad():
        graph = Graph(data)
        epsilon, int8 = config.rms_norm_eps, recipe.activations == "int8"
        for name, rotation in zip(("cos", "sin"), _rotations(model, context), strict=True):
            graph.keep(name, rotation)
        _constants(graph, (heads + 2 * kv_heads) * size, heads * size)
        x = _embedded(graph, model.get_input_embeddings().weight)
        branch = ""  # what the layer before adds to x, joined with the next norm
        for i, layer in enumerate(model.model.layers):
            at = f"layer{i}"
            x, normed = _norm(graph, f"{at}.in", x, branch, layer.input_layernorm.weight, epsilon)
            attention = layer.self_attn
            qkv = (attention.qkv_proj.weight if kind == "phi3"
                   else torch.cat([getattr(attention, f"{p}_proj").weight for p in "qkv"]))  # fmt: skip
            qkv_at = graph.multiply(f"{at}.qkv", normed, qkv, recipe.body, int8)
            graph.add("Reshape", [qkv_at, "qkv_shape"], [f"{at}.qkv_rows"])
            past, present = ([f"{when}_{i}_{what}" for what in ("key", "value")] for when in ("past", "present"))
            window = getattr(config, "sliding_window", None)
            attended = graph.add(
                "GroupQueryAttention",
                [f"{at}.qkv_rows", "", "", *past, "last", "longest", "cos", "sin", *[""] * 7, "new"],
                [f"{at}.attended", *present], CONTRIB,
                num_heads=heads, kv_num_heads=kv_heads, do_rotary=1, scale=size**-0.5,
                local_window_size=window or -1,
            )  # fmt: skip
            attended = graph.add("Reshape", [attended, "attended_shape"], [f"{at}.attended_flat"])
            branch = graph.multiply(f"{at}.o", attended, attention.o_proj.weight, recipe.body, int8)
            x, normed = _norm(graph, f"{at}.post", x, branch, layer.post_attention_layernorm.weight, epsilon)
            mlp = layer.mlp
            both = (mlp.gate_up_proj.weight if kind == "phi3"
                    else torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]))  # fmt: skip
            up = graph.multiply(f"{at}.gate_up", normed, both, recipe.body, int8)
            graph.add("Split", [up], [f"{at}.gate", f"{at}.up"], axis=-1, num_outputs=2)
            graph.add("QuickGelu", [f"{at}.gate"], [f"{at}.silu"], CONTRIB, alpha=1.0)
            graph.add("Mul", [f"{at}.silu", f"{at}.up"], [f"{at}.product"])
            branch = graph.multiply(f"{at}.down", f"{at}.product", mlp.down_proj.weight, recipe.body, int8)
        _, normed = _norm(graph, "final", x, branch, model.model.norm.weight, epsilon)
        graph.add("Gather", [normed, "wanted"], ["chosen"])
        graph.add("Shape", ["wanted"], ["places"])
        graph.add("Expand", ["middle", "places"], ["middles_chosen"])
        graph.multiply("scores", "chosen", model.get_output_embeddings().weight, recipe.head, int8, "middles_chosen")
    _save(graph, folder / MODEL, len(model.model.layers), kv_heads, size, config.vocab_size)
    if None in (recipe.body.block, recipe.head.block):
        _save_probe(folder / PROBE)


def _constants(graph: Graph, qkv: int, attended: int) -> None:
    """Small numbers kept in the graph itself: shapes are worked out before the data file is read."""
    for name, kind, shape, values in (
        ("qkv_size", TensorProto.INT64, [1], [qkv]), ("attended_shape", TensorProto.INT64, [2], [-1, attended]),
        ("one_axis", TensorProto.INT64, [1], [-1]), ("last_axis", TensorProto.INT64, [1], [-1]),
        ("step", TensorProto.FLOAT, [], [1 / 127]), ("one", TensorProto.FLOAT, [], [1.0]),
        ("middle", TensorProto.UINT8, [], [128]), ("zero", TensorProto.UINT8, [], [128]),
    ):  # fmt: skip
        graph.weights.append(helper.make_tensor(name, kind, shape, values))


def _embedded(graph: Graph, embedding: Tensor) -> str:
    """The tokens of all rows one below the other; only attention has to know which row each is of."""
    graph.keep("embedding", embedding)
    graph.add("Reshape", ["ids", "one_axis"], ["tokens"])
    graph.add("Shape", ["tokens"], ["all"])
    graph.add("Expand", ["middle", "all"], ["middles"])
    graph.add("Shape", ["ids"], ["rows_tokens"])
    graph.add("Concat", ["rows_tokens", "qkv_size"], ["qkv_shape"], axis=0)
    x = graph.add("Gather", ["embedding", "tokens"], ["embedded"])
    return x if embedding.dtype == torch.float32 else graph.add("Cast", [x], ["embedded32"], to=TensorProto.FLOAT)


def _norm(graph: Graph, name: str, x: str, branch: str, weight: Tensor, epsilon: float) -> tuple[str, str]:
    """(x + branch, its root-mean-square norm)."""
    gamma = graph.keep(f"{name}.norm", weight.float())
    if not branch:
        return x, graph.add("SimplifiedLayerNormalization", [x, gamma], [f"{name}.normed"], axis=-1, epsilon=epsilon)
    outputs = [f"{name}.normed", "", "", f"{name}.sum"]
    graph.add("SkipSimplifiedLayerNormalization", [x, branch, gamma], outputs, CONTRIB, epsilon=epsilon)
    return outputs[3], outputs[0]


def _rotations(model: Any, context: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (context, half the rotated size), from the model's own module, so with its scaling."""
    like = torch.zeros(1, 1, 1)
    cos, sin = model.model.rotary_emb(like, torch.arange(context)[None])
    half = cos.shape[-1] // 2
    return cos[0, :, :half].float(), sin[0, :, :half].float()


def _save_probe(path: Path) -> None:
    """One product of the largest bytes. Processors without VNNI instructions add them up in 16 bits, which are too few,
    and say nothing; serving asks this before it answers anybody."""
    most = helper.make_tensor("most", TensorProto.INT8, [64, 1], [127] * 64)
    node = helper.make_node("MatMulInteger", ["bytes", "most"], ["sum"])
    places = (("bytes", TensorProto.UINT8, [1, 64]), ("sum", TensorProto.INT32, [1, 1]))
    given, told = (helper.make_tensor_value_info(*place) for place in places)
    made = helper.make_graph([node], "probe", [given], [told], [most])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


def _save(graph: Graph, path: Path, layers: int, heads: int, size: int, vocabulary: int) -> None:
    def value(name: str, kind: int, *shape: Any) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def cache(when: str) -> list[Any]:
        return [value(f"{when}_{i}_{what}", TensorProto.FLOAT, "rows", heads, "columns", size)
                for i in range(layers) for what in ("key", "value")]  # fmt: skip

    inputs = [
        value("ids", TensorProto.INT64, "rows", "tokens"), value("new", TensorProto.INT32, "rows"),
        value("last", TensorProto.INT32, "rows"), value("longest", TensorProto.INT32),
        value("wanted", TensorProto.INT64, "places"), *cache("past"),
    ]  # fmt: skip
    outputs = [value("scores", TensorProto.FLOAT, "places", vocabulary), *cache("present")]
    made = helper.make_graph(graph.nodes, "decoder", inputs, outputs, graph.weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=10), path)
