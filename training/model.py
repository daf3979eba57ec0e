"""Loading the base model, choosing what of it is trained, and saving the result as one plain folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from training.chat_template import install_template
from training.errors import TrainingError, TrainingFailed
from training.recipe import Lora, Recipe

MEND = "mend base_model.source and base_model.revision in the recipe, or --base-model"


def load_tokenizer(recipe: Recipe, base: str) -> tuple[Any, int]:
    """The tokenizer with our chat template and a padding token, and the id that ends a turn."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base, revision=_revision(recipe, base), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"No tokenizer could be loaded from {base}: {_reason(error)}; {MEND}.") from error
    end_of_turn = install_template(tokenizer, recipe.base_model.chat_template)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer, end_of_turn


def load_model(recipe: Recipe, base: str) -> Any:
    """The causal language model of the recipe's type, in its dtype. Raises TrainingError when there is none."""
    import torch
    from transformers import AutoModelForCausalLM

    from training import attention

    settings = recipe.base_model
    attention.register()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base,
            revision=_revision(recipe, base),
            dtype=getattr(torch, settings.dtype),
            attn_implementation=settings.attention,
            quantization_config=_four_bits() if settings.quantization else None,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise TrainingError(f"No model could be loaded from {base}: {_reason(error)}; {MEND}.") from error
    model.config.use_cache = False
    return model


def _four_bits() -> Any:
    """NF4 with its constants quantised too, computed in bf16. The package is only wanted where it can run."""
    import importlib.util

    import torch
    from transformers import BitsAndBytesConfig

    if not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None:
        raise TrainingError(
            "base_model.quantization nf4 needs a CUDA GPU and the package bitsandbytes in training/conda.yaml; "
            "add it, or set base_model.quantization to null."
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _revision(recipe: Recipe, base: str) -> str:
    """The pinned revision for a hub name; a folder has none."""
    if Path(base).is_dir():
        return "main"
    if recipe.base_model.revision is None:
        raise TrainingError(
            f"{base} is no folder and the recipe pins no revision of it; "
            "give --base-model a folder or set base_model.revision."
        )
    return recipe.base_model.revision


def _reason(error: Exception) -> str:
    """The first sentence of a library's many."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0].rstrip(".")


def add_lora(model: Any, lora: Lora) -> Any:
    """`model` with adapters on the named layers; everything else is frozen.

    Raises TrainingError for targets that the model does not have.
    """
    from peft import LoraConfig, get_peft_model

    from training import cpu_lora

    layers = model.config.num_hidden_layers
    if lora.first_layer >= layers:
        raise TrainingError(f"lora.first_layer is {lora.first_layer}, but the model has layers 0 to {layers - 1}.")
    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    if absent := sorted(set(lora.targets) - names):
        raise TrainingError(f"The model has no layers named {', '.join(absent)}; mend lora.targets in the recipe.")
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        layers_to_transform=list(range(lora.first_layer, layers)),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, settings, autocast_adapter_dtype=lora.adapter_dtype == "float32")
    cpu_lora.fuse(adapted)
    return adapted


def save_adapter(model: Any, folder: Path) -> None:
    """Writes the adapters alone, to be put on the same base model again. Nothing when all weights were trained."""
    if not hasattr(model, "merge_and_unload"):
        return
    try:
        model.save_pretrained(folder)
    except OSError as error:
        raise TrainingError(f"The adapter could not be saved to {folder} ({error}); check free space.") from error


def merged(model: Any, recipe: Recipe, base: str) -> Any:
    """The plain model with the adapters added into its weights, in bf16."""
    import torch

    if recipe.base_model.quantization:  # adapters learned beside four bits go onto the weights these were made of
        from peft import PeftModel

        exact = recipe.base_model.model_copy(update={"quantization": None, "dtype": "bfloat16"})
        plain = load_model(recipe.model_copy(update={"base_model": exact}), base)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            model = PeftModel.from_pretrained(plain, folder)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    return model.to(torch.bfloat16).eval()


def gathered(trainer: Any) -> dict[str, Any] | None:
    """The whole of a sharded model's weights, in bf16; None where each process has them anyway. Called by all."""
    import torch

    if trainer.args.fsdp is not True:
        return None
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return {name: weight.to(torch.bfloat16) for name, weight in state.items()}


def check_finite(weights: dict[str, Any]) -> None:
    """Raises TrainingFailed for weights that no longer are numbers."""
    import torch

    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise TrainingFailed("The trained weights are not all finite; lower optimizer.learning_rate.")


def stop_ids(model: Any, tokenizer: Any, recipe: Recipe, end_of_turn: int) -> set[int]:
    """Every id that must end a generation: the template's end of turn, the tokenizer's, the base model's, the recipe's.

    Phi-3 ends a turn with 32007 while its tokenizer only names 32000: a model saved with the latter alone rambles on.
    Raises TrainingError for an id that the tokenizer does not have.
    """
    own = model.generation_config.eos_token_id
    base = own if isinstance(own, list) else [own]
    stops = {end_of_turn, tokenizer.eos_token_id, *base, *recipe.base_model.keep_eos_token_ids} - {None}
    if beyond := sorted(token for token in stops if token >= len(tokenizer)):
        raise TrainingError(
            f"The tokenizer has no token {beyond[0]}; base_model.keep_eos_token_ids is made for another model."
        )
    return stops


def save(
    model: Any, tokenizer: Any, stops: set[int], output: Path, readme: str, state: dict[str, Any] | None = None
) -> None:
    """Writes weights, tokenizer with template, card, and a generation config whose end-of-sequence ids are `stops`.

    The folder appears as a whole: a run that dies while saving leaves nothing to be taken for a model. (A job's output
    folder may be a mount that exists and is empty; then the files are moved into it, weights last.)
    """
    from transformers import GenerationConfig

    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(stops),
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    beside = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        model.save_pretrained(beside, state_dict=state)
        (beside / "README.md").write_text(readme, encoding="utf-8")
        tokenizer.save_pretrained(beside)
        for path in beside.iterdir():
            path.chmod(0o644)
        output.mkdir(parents=True, exist_ok=True)
        for path in sorted(beside.iterdir(), key=lambda p: (p.suffix == ".safetensors", p.name)):
            shutil.move(path, output / path.name)
    except OSError as error:
        raise TrainingError(f"The model could not be saved to {output} ({error}); check free space.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
