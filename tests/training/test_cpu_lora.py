"""Our LoRA layers against exact derivatives and against peft's own, and which layers are left alone."""

import copy
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from training.cpu_lora import _Adapted, fuse
from training.model import add_lora
from training.recipe import Lora

LORA = Lora(rank=4, alpha=8, dropout=0.0, targets=["q_proj", "down_proj"], first_layer=0, adapter_dtype="bfloat16")


def model(dtype: torch.dtype = torch.bfloat16, lora: Lora = LORA) -> Any:
    """A small model whose adapters do something already."""
    torch.manual_seed(5)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1)
    adapted = add_lora(LlamaForCausalLM(config).to(dtype), lora)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=1.0)
    return adapted


def loss(adapted: Any) -> torch.Tensor:
    tokens = torch.arange(1, 41).reshape(2, 20)
    found: torch.Tensor = adapted(input_ids=tokens, labels=tokens).loss
    return found


def gradients(adapted: Any) -> dict[str, torch.Tensor]:
    loss(adapted).backward()
    return {name: weight.grad.double() for name, weight in adapted.named_parameters() if weight.grad is not None}


def replaced(adapted: Any) -> int:
    return sum("forward" in vars(layer) for layer in adapted.modules() if hasattr(layer, "lora_A"))


@pytest.mark.parametrize("into_x", [True, False])
def test_the_derivatives_are_exact(into_x: bool) -> None:
    torch.manual_seed(2)
    x, weight, down, up = (torch.randn(*shape, dtype=torch.float64) for shape in ((7, 5), (6, 5), (2, 5), (6, 2)))
    parts = (x.requires_grad_(into_x), weight, down.requires_grad_(), up.requires_grad_(), 2.0)
    assert torch.autograd.gradcheck(_Adapted.apply, parts)
    torch.testing.assert_close(_Adapted.apply(*parts), x @ weight.T + 2.0 * (x @ down.T) @ up.T)


def test_in_bf16_it_is_no_further_from_exact_arithmetic_than_pefts_own() -> None:
    ours = model()
    assert replaced(ours) == 4
    theirs, exact = copy.deepcopy(ours), copy.deepcopy(ours).double()
    for other in (theirs, exact):
        for layer in other.modules():
            vars(layer).pop("forward", None)
    right = gradients(exact)
    off = [
        {name: ((grad - right[name]).norm() / right[name].norm()).item() for name, grad in gradients(each).items()}
        for each in (ours, theirs)
    ]
    assert off[0].keys() == off[1].keys() == right.keys()
    assert len(right) == 8
    for name, ours_off in off[0].items():
        assert ours_off < 1.5 * off[1][name] + 2**-8, name


def test_an_adapter_that_is_off_or_merged_counts_once() -> None:
    adapted = model()
    tokens = torch.arange(1, 41).reshape(2, 20)

    def apart(other: torch.Tensor) -> float:
        return ((other - on).norm() / on.norm()).item()

    with torch.no_grad():
        on = adapted(input_ids=tokens).logits
        with adapted.disable_adapter():
            off = apart(adapted(input_ids=tokens).logits)
        adapted.merge_adapter()
        merged = apart(adapted(input_ids=tokens).logits)
        adapted.unmerge_adapter()
        plain = apart(adapted.merge_and_unload()(input_ids=tokens).logits)
    assert max(merged, plain) < 0.02
    assert off > 0.2


@pytest.mark.parametrize(
    ("dtype", "changes"),
    [(torch.float32, {}), (torch.bfloat16, {"dropout": 0.1}), (torch.bfloat16, {"adapter_dtype": "float32"})],
    ids=["fp32", "dropout", "mixed"],
)
def test_what_it_is_not_made_for_stays_pefts(dtype: torch.dtype, changes: dict[str, Any]) -> None:
    adapted = model(dtype, LORA.model_copy(update=changes))
    assert replaced(adapted) == 0
    assert fuse(adapted) == 0
