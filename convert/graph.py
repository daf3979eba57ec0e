"""The ONNX graph of a Llama or Phi-3 model, made node by node from a loaded transformers model.

Why not a general exporter: it writes attention as it is computed on a GPU, over a cache that is copied at every token.
Here each layer is one GroupQueryAttention that writes to rows of a buffer in place; each row has its own length, and
new tokens may be padded on the right.

Inputs, with R rows of S new tokens each (padding included):
  ids (R, S) · new (R) tokens without padding · last (R) = length of each row afterwards − 1 ·
  longest () = the largest of these lengths ·
  wanted (W): which of the R × S places get scores · past_LAYER_key/value (R, heads, columns, size)
Outputs: scores (W, vocabulary) · present_LAYER_key/value, to be bound to the same memory as the past.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

from convert.errors import ConvertError
from convert.nodes import CONTRIB, DATA, Graph
from convert.products import CONSTANTS, PROBE, multiply, save_probe
from convert.recipe import Recipe

MODEL = "model.onnx"
KINDS = {"LlamaForCausalLM": "llama", "Phi3ForCausalLM": "phi3"}


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
        epsilon = config.rms_norm_eps
        for name, rotation in zip(("cos", "sin"), _rotations(model, context), strict=True):
            graph.keep(name, rotation)
        graph.weights += [helper.make_tensor(*constant) for constant in CONSTANTS]
        x = _embedded(graph, model.get_input_embeddings().weight, (heads + 2 * kv_heads) * size)
        branch = ""  # what the layer before adds to x, joined with the next norm
        for i, layer in enumerate(model.model.layers):
            at = f"layer{i}"
            x, normed = _norm(graph, f"{at}.in", x, branch, layer.input_layernorm.weight, epsilon)
            attention = layer.self_attn
            qkv = (attention.qkv_proj.weight if kind == "phi3"
                   else torch.cat([getattr(attention, f"{p}_proj").weight for p in "qkv"]))  # fmt: skip
            qkv_at = multiply(graph, f"{at}.qkv", normed, qkv, recipe.body, recipe)
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
            attended = graph.add("Reshape", [attended, graph.shape(-1, heads * size)], [f"{at}.attended_flat"])
            branch = multiply(graph, f"{at}.o", attended, attention.o_proj.weight, recipe.body, recipe)
            x, normed = _norm(graph, f"{at}.post", x, branch, layer.post_attention_layernorm.weight, epsilon)
            mlp = layer.mlp
            both = (mlp.gate_up_proj.weight if kind == "phi3"
                    else torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]))  # fmt: skip
            up = multiply(graph, f"{at}.gate_up", normed, both, recipe.body, recipe)
            graph.add("Split", [up], [f"{at}.gate", f"{at}.up"], axis=-1, num_outputs=2)
            graph.add("QuickGelu", [f"{at}.gate"], [f"{at}.silu"], CONTRIB, alpha=1.0)
            graph.add("Mul", [f"{at}.silu", f"{at}.up"], [f"{at}.product"])
            branch = multiply(graph, f"{at}.down", f"{at}.product", mlp.down_proj.weight, recipe.body, recipe)
        _, normed = _norm(graph, "final", x, branch, model.model.norm.weight, epsilon)
        graph.add("Gather", [normed, "wanted"], ["chosen"])
        graph.add("Shape", ["wanted"], ["places"])
        graph.add("Expand", ["middle", "places"], ["middles_chosen"])
        multiply(graph, "scores", "chosen", model.get_output_embeddings().weight, recipe.head, recipe, "middles_chosen")
    _save(graph, folder / MODEL, len(model.model.layers), kv_heads, size, config.vocab_size)
    if None in (recipe.body.block, recipe.head.block):
        save_probe(folder / PROBE)


def _embedded(graph: Graph, embedding: Tensor, qkv: int) -> str:
    """The tokens of all rows one below the other; only attention has to know which row each is of."""
    graph.keep("embedding", embedding)
    graph.add("Reshape", ["ids", graph.shape(-1)], ["tokens"])
    graph.add("Shape", ["tokens"], ["all"])
    graph.add("Expand", ["middle", "all"], ["middles"])
    graph.add("Shape", ["ids"], ["rows_tokens"])
    graph.add("Concat", ["rows_tokens", graph.shape(qkv)], ["qkv_shape"], axis=0)
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
