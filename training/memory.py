"""Whether a step fits into the memory at hand, and what to change when it did not."""

from __future__ import annotations

from typing import Any

from training.recipe import Recipe

ROOM = 0.9  # share of the free memory that the estimate may fill
PER_TRAINED_WEIGHT = 12.0  # bytes beside the weight: gradient and two moments, each in fp32


def free_bytes(gpu: bool) -> int:
    """Memory that nothing uses yet: of this process's GPU, or of the machine."""
    if gpu:
        import torch

        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)


def step_bytes(config: Any, weights: int, frozen: bool, tokens: int) -> int:
    """What a step keeps for its backward pass without checkpointing, and what the optimizer keeps beside the weights.

    Per layer and token about 20 values of the hidden size and 8 of the intermediate one, in bf16: for Phi-3-mini that
    is 254 KB, or 67 GB for 8,192 tokens, as much as is known to fit an 80 GB card. An estimate, on the safe side.
    """
    values = 20 * config.hidden_size + 8 * config.intermediate_size
    activations = 2 * values * config.num_hidden_layers * tokens
    return int(activations + (0 if frozen else PER_TRAINED_WEIGHT * weights))


def choose_checkpointing(recipe: Recipe, model: Any, longest: int, free: int) -> bool:
    """Gradient checkpointing as the recipe says; with `auto` only when a step would not fit. Says what and why."""
    asked = recipe.run.gradient_checkpointing
    if asked != "auto":
        return asked
    row = recipe.data.max_length if recipe.data.packing else longest
    tokens = recipe.run.batch_size * row
    frozen = any(not parameter.requires_grad for parameter in model.parameters())
    weights = sum(parameter.numel() for parameter in model.parameters())
    needed = step_bytes(model.config, weights, frozen, tokens)
    on = needed > ROOM * free
    verb = "on, which computes each layer twice" if on else "off"
    print(
        f"gradient checkpointing: {verb} (a step of {tokens} tokens keeps about {needed / 1e9:.1f} GB without it, "
        f"{free / 1e9:.1f} GB are free)",
        flush=True,
    )
    return on


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is torch's or Python's way of saying that memory has run out, on a GPU or a CPU."""
    text = str(error)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"OutOfMemoryError", "MemoryError"}) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )


def what_to_lower(recipe: Recipe, checkpointing: bool) -> str:
    """The setting that costs least to change after a run went out of memory."""
    run = recipe.run
    if run.batch_size > 1:
        smaller = (run.batch_size + 1) // 2
        more = -(-run.batch_size * run.accumulation // smaller)
        return (
            f"lower run.batch_size from {run.batch_size} to {smaller} and raise run.accumulation from "
            f"{run.accumulation} to {more}: the result stays the same"
        )
    if not checkpointing:
        return "set run.gradient_checkpointing to true: it costs time, the result stays the same"
    if recipe.lora is None:
        return "train adapters (set lora), or spread the job with scale.sharding full"
    return f"lower data.max_length from {recipe.data.max_length}, or set base_model.quantization to nf4"
