"""The nodes and weights of an ONNX graph, in the order they are made.

Weights go to the data file as they come, so memory holds one matrix at a time beside the source.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor

DATA = "model.onnx.data"
PAGE = 4096  # the runtime maps the data file into memory, tensor by tensor
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
        self.shapes: set[str] = set()

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

    def shape(self, *sizes: int) -> str:
        """A constant shape, made once, in the graph itself: shapes are worked out before the data file is read."""
        name = "shape_" + "_".join(map(str, sizes))
        if name not in self.shapes:
            self.shapes.add(name)
            self.weights.append(helper.make_tensor(name, TensorProto.INT64, [len(sizes)], sizes))
        return name
