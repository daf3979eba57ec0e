"""A recipe: every parameter of a training run in one YAML file. No key is optional and none is ignored."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import TrainingError

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Dtype = Literal["bfloat16", "float32"]
_SMALL = re.compile(r"[\d.]+[eE][-+]?\d+")  # 5e-05, as programs write it and YAML takes it for text


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BaseModelPart(_Part):
    """Which weights to start from: the folder given as `--base-model`, or, without one, `source` at `revision`."""

    source: str  # a hub name, or the name of the asset that the caller mounts as --base-model
    revision: str | None  # a pinned commit for a hub name; null where the source is already one version
    chat_template: Literal["chatml", "phi3", "phi4"]
    dtype: Dtype
    attention: Literal["sdpa", "eager", "varlen", "flash_attention_2"]  # varlen: attention.py, needs no package
    quantization: Literal["nf4"] | None  # the frozen base in four bits (QLoRA); needs CUDA and bitsandbytes
    keep_eos_token_ids: list[int]  # ids that must stay end-of-sequence beside the template's own end of turn


class Data(_Part):
    max_length: Positive  # tokens of a whole chat, template included
    over_length: Literal["error", "drop"]  # never cut: half an answer teaches half an answer
    packing: bool  # several chats in one row of at most max_length tokens; none sees another (packing.py)
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
    batch_size: Positive  # chats (packed: rows of chats) a device and a step
    accumulation: Positive
    gradient_checkpointing: Literal[True, False, "auto"]  # auto: only when the memory at hand asks for it
    log_every: Positive  # steps
    eval_every: Positive | None  # steps; null: once, at the end
    checkpoint_every: Positive | None  # steps; null: a run that is killed starts anew
    keep_best: bool  # the model of the lowest validation loss instead of the last one
    patience: Positive | None  # evaluations without a better one after which the run stops; null: to the end


class Scale(_Part):
    """How the job is spread. More processes see more data a step: batch_size is that of one process."""

    device: Literal["cpu", "gpu"]
    instances: Positive
    processes_per_instance: Positive  # on a GPU: one for each GPU of an instance
    sharding: Literal["none", "full"]  # none: every process has a whole model (DDP); full: FSDP2


class Recipe(_Part):
    route: Literal["job"] = Field("job", exclude=True)  # other routes have recipes of another shape (docs/routes.md)
    name: str
    base_model: BaseModelPart
    data: Data
    lora: Lora | None  # null: all weights are trained
    optimizer: Optimizer
    run: Run
    scale: Scale

    def problem(self) -> str | None:
        """What in a recipe of sound values does not fit together, and how to mend it."""
        base, data, run, scale = self.base_model, self.data, self.run, self.scale
        processes = scale.instances * scale.processes_per_instance
        saves_at_evaluations = run.eval_every and run.checkpoint_every and not run.checkpoint_every % run.eval_every
        rules = {
            "must set exactly one of run.epochs and run.max_steps; set the other to null": (
                (run.epochs is None) == (run.max_steps is None)
            ),
            "groups packed rows by length, but all have the same; set data.sampling to random": (
                data.packing and data.sampling == "group_by_length"
            ),
            "quantizes a base model whose weights are trained; set lora, or base_model.quantization to null": (
                base.quantization is not None and self.lora is None
            ),
            "quantizes for a CPU; set base_model.quantization to null or scale.device to gpu": (
                base.quantization is not None and scale.device == "cpu"
            ),
            "needs run.checkpoint_every as a multiple of run.eval_every for run.keep_best": (
                run.keep_best and not saves_at_evaluations
            ),
            "stops early without a best model to go back to; set run.keep_best to true or run.patience to null": (
                run.patience is not None and not run.keep_best
            ),
            "shards adapters or a single process; set scale.sharding to none": (
                scale.sharding == "full" and (self.lora is not None or processes == 1)
            ),
        }
        return next((said for said, broken in rules.items() if broken), None)


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
    """The first thing that is wrong, and how many more there are. A misspelt key is also one that is missing: that the
    key is unknown says more.
    """
    first, *others = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
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


def load_recipe(path: Path, changes: list[str] | None = None) -> Recipe:
    """The recipe in `path`, with `changes` of the form `part.key=value`.

    Raises TrainingError with one sentence for anything that is wrong with it.
    """
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
        recipe = Recipe.model_validate(_with(content, changes or []))
    except ValidationError as error:
        raise TrainingError(_sentence(path, error)) from None
    if problem := recipe.problem():
        raise TrainingError(f"Recipe {path} {problem}.")
    return recipe


def _with(content: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """`content` with values such as `optimizer.learning_rate=0.001` in their places; a trial of a sweep has them."""
    for change in changes:
        name, is_there, value = change.partition("=")
        *parts, last = name.split(".")
        try:
            found = content
            for part in parts:
                found = found[part]
            if not is_there or last not in found or isinstance(found[last], dict):
                raise KeyError(last)
            read = yaml.safe_load(value)
            found[last] = float(read) if isinstance(read, str) and _SMALL.fullmatch(read) else read
        except (KeyError, TypeError, yaml.YAMLError):
            raise TrainingError(
                f"--set {change[:80]} changes no value of the recipe; write it as optimizer.learning_rate=0.001."
            ) from None
    return content
