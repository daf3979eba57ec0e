"""A recipe: every parameter of a training run in one YAML file. No key is optional and none is ignored."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import TrainingError

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Dtype = Literal["bfloat16", "float32"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BaseModelPart(_Part):
    """Which weights to start from: the folder given as `--base-model`, or, without one, `source` at `revision`."""

    source: str  # a hub name, or the name of the asset that the caller mounts as --base-model
    revision: str | None  # a pinned commit for a hub name; null where the source is already one version
    chat_template: Literal["chatml", "phi3"]
    dtype: Dtype
    attention: Literal["sdpa", "eager", "flash_attention_2"]
    keep_eos_token_ids: list[int]  # ids that must stay end-of-sequence beside the template's own end of turn


class Data(_Part):
    max_length: Positive  # tokens of a whole chat, template included
    over_length: Literal["error", "drop"]  # never cut: half an answer teaches half an answer
    packing: bool
    sampling: Literal["random", "group_by_length"]
    max_validation_rows: Positive | None  # null: all of validation.jsonl


class Lora(_Part):
    rank: Positive
    alpha: Positive
    dropout: Share
    targets: list[str]
    first_layer: Annotated[int, Field(ge=0)]  # layers below stay frozen and need no backward pass
    adapter_dtype: Dtype


class Optimizer(_Part):
    name: Literal["adamw_torch", "adamw_torch_fused"]
    learning_rate: Rate
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"]
    warmup_share: Share
    weight_decay: Share
    beta2: Rate
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Run(_Part):
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    epochs: Positive | None  # exactly one of epochs and max_steps is set
    max_steps: Positive | None
    batch_size: Positive  # chats a device and a step
    accumulation: Positive
    gradient_checkpointing: bool
    log_every: Positive  # steps
    eval_every: Positive | None  # steps; null: once, at the end


class Recipe(_Part):
    name: str
    base_model: BaseModelPart
    data: Data
    lora: Lora | None  # null: all weights are trained
    optimizer: Optimizer
    run: Run


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """The keys that the part of a recipe at `location` may have."""
    part: type[BaseModel] = Recipe
    for name in location:
        field = part.model_fields.get(str(name))
        options = [field.annotation, *get_args(field.annotation)] if field else []
        inner = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not inner:
            return []
        part = inner[0]
    return list(part.model_fields)


def _sentence(path: Path, error: ValidationError) -> str:
    """The first thing that is wrong, and how many more there are."""
    first, *others = error.errors()
    key = ".".join(str(part) for part in first["loc"])
    more = f" ({len(others)} more problem{'s' if len(others) > 1 else ''} in this file)" if others else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0)
        return (
            f"Recipe {path} has the unknown key '{key}'; the nearest known key is '{near[0]}'{more}."
            if near
            else (f"Recipe {path} has the unknown key '{key}'; remove it{more}.")
        )
    if first["type"] == "missing":
        return f"Recipe {path} lacks the key '{key}'; every parameter has to be written down{more}."
    return f"Recipe {path} has a wrong value at '{key}': {first['msg']}{more}."


def load_recipe(path: Path) -> Recipe:
    """The recipe in `path`. Raises TrainingError with one sentence for anything that is wrong with it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise TrainingError(f"Recipe {path} cannot be read ({reason}); give the path of a YAML recipe.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise TrainingError(
            f"Recipe {path}{where} is not valid YAML; mend it or start from a file in recipes/."
        ) from None
    if not isinstance(content, dict):
        raise TrainingError(f"Recipe {path} is not a mapping of keys; start from a file in recipes/.")
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise TrainingError(_sentence(path, error)) from None
    if (recipe.run.epochs is None) == (recipe.run.max_steps is None):
        raise TrainingError(
            f"Recipe {path} must set exactly one of run.epochs and run.max_steps; set the other to null."
        )
    if recipe.data.packing and recipe.base_model.attention != "flash_attention_2":
        raise TrainingError(
            f"Recipe {path} packs chats with attention '{recipe.base_model.attention}', which lets them see each "
            "other; set data.packing to false or base_model.attention to flash_attention_2."
        )
    return recipe
