"""Rounding in blocks: nothing is further off than half a step, and the bytes are those that onnxruntime reads."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.blocks import pack, unpack
from convert.recipe import Weights

HOW = [
    Weights(bits=bits, block=16, symmetric=symmetric, search=search)
    for bits in (4, 8) for symmetric in (True, False) for search in (1, 8)
]  # fmt: skip
MATRICES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31), st.floats(1e-4, 1e4))


def matrix(of: tuple[int, int, int, float]) -> torch.Tensor:
    rows, blocks, seed, size = of
    made = torch.randn(rows, blocks * 16, generator=torch.Generator().manual_seed(seed)) * size
    made[0, :16] = 0
    return made


@given(MATRICES, st.sampled_from(HOW))
@settings(deadline=None, max_examples=60)
def test_without_a_search_nothing_is_further_off_than_half_a_step(of: Any, how: Weights) -> None:
    source = matrix(of)
    packed = pack(source, how.model_copy(update={"search": 1}))
    off = (unpack(packed, how) - source).abs().view(*packed.scales.shape, how.block).amax(-1)
    # With its own zero a block may be shifted by half a step, as the zero is a whole number too.
    assert (off <= packed.scales * (0.5 if how.symmetric else 1.0) * 1.001 + 1e-9).all()


@given(MATRICES, st.sampled_from(HOW))
@settings(deadline=None, max_examples=60)
def test_a_search_never_makes_the_error_larger(of: Any, how: Weights) -> None:
    source = matrix(of)
    plain, sought = (
        ((unpack(pack(source, each), each) - source) ** 2).view(len(source), -1, how.block).sum(-1)
        for each in (how.model_copy(update={"search": 1}), how)
    )
    assert (sought <= plain * 1.0001 + 1e-9).all()


@pytest.mark.parametrize("how", HOW, ids=str)
def test_the_runtime_reads_the_same_matrix(how: Weights) -> None:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    source = matrix((24, 3, 7, 1.0))
    packed = pack(source, how)
    weights = {"b": packed.values.view(24, 3, -1), "s": packed.scales}
    weights |= {"z": packed.zeros} if packed.zeros is not None else {}
    node = helper.make_node("MatMulNBits", ["x", *weights], ["y"], domain="com.microsoft", K=48, N=24, bits=how.bits,
                            block_size=16, accuracy_level=1)  # fmt: skip
    kept = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [48, n]) for name, n in (("x", 48), ("y", 24)))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "one", [x], [y], kept), opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": np.eye(48, dtype=np.float32)})
    np.testing.assert_allclose(got.T, unpack(packed, how).numpy(), rtol=1e-5, atol=1e-5)


def test_a_part_of_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of the block"):
        pack(torch.zeros(2, 24), HOW[0])
