"""What a run says of its speed follows from true lengths; what it says of memory is a setting to change."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.memory import choose_checkpointing, is_out_of_memory, step_bytes, what_to_lower
from training.recipe import load_recipe
from training.speed import Counts, Meter, Shape, peak_flops, shape_of

ROOT = Path(__file__).parents[2]
PHI3 = Shape(
    linear=32 * (9216 * 3072 + 3072 * 3072 + 3 * 8192 * 3072), head=32064 * 3072, attention=32 * 3072, frozen=False
)
PHI3_SIZES = SimpleNamespace(hidden_size=3072, intermediate_size=8192, num_hidden_layers=32)


def test_the_arithmetic_of_phi3_is_what_is_known_of_it() -> None:
    """Known for conversations of 1,374 tokens: about 23.3 GFLOP a token for all weights, 15.9 for adapters."""
    full = PHI3.flops([1374], 1374) / 1374 / 1e9
    adapters = Shape(PHI3.linear, PHI3.head, PHI3.attention, frozen=True).flops([1374], 1374) / 1374 / 1e9
    assert full == pytest.approx(23.3, rel=0.02)
    assert adapters == pytest.approx(15.9, rel=0.02)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=9))
def test_chats_apart_cost_less_than_one_row_and_padding_nothing(lengths: list[int]) -> None:
    import torch

    labels = sum(lengths)
    assert PHI3.flops(lengths, labels) <= PHI3.flops([labels], labels)
    flat, padded = Meter(PHI3, "CPU", 1), Meter(PHI3, "CPU", 1)
    marks = torch.ones(1, labels, dtype=torch.long)
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    flat.batch({"cu_seq_lens_q": bounds, "labels": marks})
    mask = torch.tensor([[1] * n + [0] * (400 - n) for n in lengths])
    padded.batch({"attention_mask": mask, "labels": torch.cat([marks, torch.full((1, 50), -100)], 1)})
    assert vars(flat.window) == vars(padded.window)


def test_rates_are_of_all_processes_and_the_whole_run() -> None:
    meter = Meter(PHI3, "NVIDIA A100 80GB PCIe", 2)
    meter.total = Counts(tokens=1000, labels=500, flops=312e12, waited=1.0, seconds=10.0)  # of a run that was cut
    assert meter.rates(meter.total) == {
        "tokens_per_second": 100.0,
        "loss_tokens_per_second": 50.0,
        "data_wait_share": 0.1,
        "mfu": pytest.approx(0.05),
    }
    meter.close([24, 12, 0.0])
    assert (meter.total.tokens, meter.total.labels, meter.window) == (1024, 512, Counts())
    assert "mfu" not in Meter(PHI3, "CPU", 1).rates(meter.total)  # nobody says what a CPU could do


def test_the_more_precise_name_of_a_device_wins() -> None:
    assert peak_flops("NVIDIA H100 NVL") == 835e12
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("AMD EPYC") is None


@pytest.mark.slow
def test_the_shape_is_read_off_the_model(tiny_phi3: Path) -> None:
    from transformers import AutoModelForCausalLM

    from training.model import add_lora
    from training.recipe import Lora

    model = AutoModelForCausalLM.from_pretrained(tiny_phi3)
    plain = shape_of(model)
    assert plain.linear == 2 * (64 * 32 + 32 * 32 + 32 * 128 + 64 * 32)
    assert (plain.head, plain.attention, plain.frozen) == (model.config.vocab_size * 32, 2 * 32, False)
    lora = Lora(rank=2, alpha=2, dropout=0.0, targets=["qkv_proj"], first_layer=0, adapter_dtype="float32")
    adapted = shape_of(add_lora(model, lora))
    assert (adapted.linear, adapted.head, adapted.frozen) == (plain.linear, plain.head, True)


def test_what_is_known_to_fit_a_card_is_not_computed_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """LoRA of Phi-3-mini with 8,192 tokens fits 80 GB; all its weights with 4,096 do not fit beside their moments."""
    weights, gb = 3_821_000_000, 10**9
    assert step_bytes(PHI3_SIZES, weights, True, 8192) < 0.95 * 72 * gb
    assert step_bytes(PHI3_SIZES, weights, False, 4096) > 64 * gb

    class Model:
        config = PHI3_SIZES

        def parameters(self) -> list[Any]:
            return [SimpleNamespace(requires_grad=False, numel=lambda: weights)]

    recipe = load_recipe(ROOT / "training" / "recipes" / "a100_lora.yaml")
    assert choose_checkpointing(recipe, Model(), 4096, 100 * gb) is False
    assert choose_checkpointing(recipe, Model(), 4096, 40 * gb) is True
    said = capsys.readouterr().out
    assert said.count("gradient checkpointing: ") == 2
    assert "on, which computes each layer twice (a step of 8192 tokens keeps about 66." in said
    fixed = load_recipe(ROOT / "training" / "recipes" / "a100_lora.yaml", ["run.gradient_checkpointing=false"])
    assert choose_checkpointing(fixed, Model(), 4096, 1) is False


@pytest.mark.slow
def test_out_of_memory_names_the_setting_that_costs_least() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    path = ROOT / "training" / "recipes" / "a100_lora.yaml"
    halved = what_to_lower(load_recipe(path, ["run.batch_size=5", "run.accumulation=3"]), False)
    assert "run.batch_size from 5 to 3 and raise run.accumulation from 3 to 5" in halved
    assert "gradient_checkpointing" in what_to_lower(load_recipe(path, ["run.batch_size=1"]), False)
    assert "data.max_length from 4096" in what_to_lower(load_recipe(path, ["run.batch_size=1"]), True)
    full = ROOT / "training" / "recipes" / "a100_full.yaml"
    assert "set lora" in what_to_lower(load_recipe(full), True)
