"""What the documents decide before a pipeline is made: size, GPUs, parameters, the name it is shown under. Pure."""

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from scripts.errors import InvalidInput, Refused

ALLOWED, DEFAULTS = "finetune_compute_allow_list", "model_specific_defaults"  # tags of a model
# GPUs that the fine-tuning images do not support; asked where a model has no list of its own.
UNSUPPORTED = ("standard_nc6", "standard_nc12", "standard_nc24", "standard_nc24r")
OURS = ("number_of_gpu_to_use_finetuning", "num_nodes_finetune")  # follow from the cluster, never from a model


def check_size(model: str, tags: Mapping[str, str], size: str) -> None:
    """Raises Refused for a size that the model's fine-tuning does not run on."""
    allowed = literal(model, tags, ALLOWED, list)
    if allowed is not None:
        if size.lower() not in [str(each).lower() for each in allowed]:
            raise Refused(
                f"{model} cannot be fine-tuned on {size}: set compute.size to one of {', '.join(map(str, allowed))}."
            )
    elif size.lower() in UNSUPPORTED:
        raise Refused(f"{size} is not supported for fine-tuning: set compute.size to Standard_NC24ads_A100_v4.")


def literal(model: str, tags: Mapping[str, str], tag: str, kind: type) -> Any:
    """A tag that holds a Python list or dict as text; None where the model has no such tag. Raises InvalidInput."""
    if tag not in tags:
        return None
    try:
        found = ast.literal_eval(tags[tag])
    except (ValueError, SyntaxError):
        found = None
    if not isinstance(found, kind):
        raise InvalidInput(f"The tag {tag} of {model} is not a {kind.__name__}: choose another version of the model.")
    return found


def gpus(size: str, known: Iterable[tuple[str, int]], asked: int | None) -> int:
    """GPUs to use on an instance, by the service's list of sizes. Raises InvalidInput."""
    found = {name.lower(): count for name, count in known}.get(size.lower())
    if found is None:
        raise InvalidInput(f"Azure ML has no size {size} in this region: set compute.size to one that it has.")
    if not found:
        raise InvalidInput(f"{size} has no GPU, and the registry's pipeline trains on nothing else.")
    if asked is not None and asked > found:
        raise InvalidInput(f"number_of_gpu_to_use_finetuning is {asked}, and {size} has {found}.")
    return asked or found


def check_nodes(asked: int, limit: int) -> None:
    """Raises InvalidInput for more instances than the cluster may have."""
    if asked > limit:
        raise InvalidInput(
            f"num_nodes_finetune is {asked}, and the cluster has at most {limit}: raise compute.max_instances and run "
            "`provision`, or mend the recipe."
        )


def merged(
    parameters: Mapping[str, Any], defaults: Mapping[str, Any], inputs: Iterable[str]
) -> tuple[dict[str, Any], list[str]]:
    """The recipe's parameters under the model's own defaults, which win; and a sentence for each thing to know."""
    known, told = set(inputs), []
    if unknown := sorted(set(parameters) - known):
        raise InvalidInput(f"The component has no parameter {unknown[0]}: pin another component.version, or leave it.")
    wins = {name: value for name, value in defaults.items() if name in known and name not in OURS}
    changed = [
        f"{name} {value} instead of {parameters[name]}"
        for name, value in wins.items()
        if name in parameters and not same(parameters[name], value)
    ]
    if changed:
        told.append(f"The model's own defaults win over the recipe: {', '.join(changed)}.")
    if left := sorted(set(defaults) - known):
        told.append(f"The component does not take these defaults of the model: {', '.join(left)}.")
    return {**parameters, **wins}, told


def same(one: Any, other: Any) -> bool:
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return str(one).lower() == str(other).lower()


def display_name(model: str, dataset: str, parameters: Mapping[str, Any], gpus_per_node: int) -> str:
    """As the documents build it: total batch size, scheduler, DeepSpeed, LoRA, checkpoints kept, length."""
    batch = gpus_per_node
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "num_nodes_finetune"):
        batch *= int(parameters.get(name, 1))
    deepspeed = str(parameters.get("apply_deepspeed", "false")).lower() == "true"
    lora = str(parameters.get("apply_lora", "false")).lower() == "true"
    return "-".join(
        (
            model,
            dataset,
            f"bs{batch}",
            str(parameters.get("lr_scheduler_type", "linear")),
            f"ds{parameters.get('deepspeed_stage', 2)}" if deepspeed else "nods",
            "lora" if lora else "nolora",
            f"save_limit{parameters.get('save_total_limit', -1)}",
            f"seqlen{parameters.get('max_seq_length', -1)}",
        )
    )
