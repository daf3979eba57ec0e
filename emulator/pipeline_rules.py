"""A component's inputs: what was given against what it declares, and the trainer's recipe made of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulator.errors import ArmError
from emulator.finetuning_rules import Asked
from emulator.finetuning_rules import recipe as service_recipe

LITERALS = {"string": str, "integer": int, "number": float}
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup")
LONGEST = 1024  # tokens of a chat where `max_seq_length` leaves it to the model


def given_value(value: Mapping[str, Any]) -> str:
    """What an input of the wire says: a literal's text, or the URI of an asset."""
    return str(value.get("value") if value.get("job_input_type") == "literal" else value.get("uri"))


def check_inputs(component: str, declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> None:
    """ArmError 400 for an input that the component does not have, a required one that is missing, a wrong value."""
    if unknown := sorted(set(given) - set(declared)):
        raise ArmError(400, "UserError", f"Component '{component}' has no input '{unknown[0]}'.")
    for name, rule in declared.items():
        if name not in given:
            if not rule.get("optional") and "default" not in rule:
                raise ArmError(400, "UserError", f"Required input '{name}' of component '{component}' is missing.")
            continue
        text, kind = given_value(given[name]), rule["type"]
        if kind not in LITERALS:
            continue
        try:
            number = LITERALS[kind](text)
        except ValueError:
            raise ArmError(400, "UserError", f"Input '{name}' is '{text}': it must be of type {kind}.") from None
        if rule.get("enum") and text not in rule["enum"]:
            allowed = ", ".join(rule["enum"])
            raise ArmError(400, "UserError", f"Input '{name}' is '{text}': it must be one of {allowed}.")
        if "min" in rule and number < rule["min"]:
            raise ArmError(400, "UserError", f"Input '{name}' is {text}: it must be at least {rule['min']}.")


def values(declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, str]:
    """Every input with a value, as text: what was given over the component's defaults."""
    defaults = {name: str(rule["default"]) for name, rule in declared.items() if "default" in rule}
    return {**defaults, **{name: given_value(value) for name, value in given.items()}}


def recipe(asked: Mapping[str, str], rows: int, base: Path) -> dict[str, Any]:
    """The trainer's recipe for the small model. ArmError 400 for what the trainer here cannot do.

    DeepSpeed, ONNX Runtime and the number of GPUs mean nothing on two cores: they change nothing.
    """
    schedule = asked["lr_scheduler_type"]
    if schedule not in SCHEDULES:
        raise ArmError(400, "NotSupported", f"The local Azure ML has no scheduler '{schedule}'.")
    if asked["apply_lora"] == "true" and asked["merge_lora_weights"] != "true":
        raise ArmError(400, "NotSupported", "The local Azure ML always merges LoRA weights.")
    batch, accumulation = int(asked["per_device_train_batch_size"]), int(asked["gradient_accumulation_steps"])
    epochs, most = int(asked["num_train_epochs"]), int(asked["max_steps"])
    content = service_recipe(Asked(epochs, float(asked["learning_rate"]), batch), rows, base)
    steps = most if most > 0 else epochs * -(-rows // (batch * accumulation))
    half, length = asked["precision"] == "16", int(asked["max_seq_length"])
    dtype = "bfloat16" if half else "float32"
    lora = {
        **content["lora"],
        "rank": int(asked["lora_r"]),
        "alpha": int(asked["lora_alpha"]),
        "dropout": float(asked["lora_dropout"]),
        "adapter_dtype": dtype,
    }
    return {
        **content,
        "name": "chat_completion_pipeline",
        "base_model": {**content["base_model"], "dtype": dtype},
        "data": {**content["data"], "max_length": length if length > 0 else LONGEST},
        "lora": lora if asked["apply_lora"] == "true" else None,
        "optimizer": {
            **content["optimizer"],
            "schedule": schedule,
            "warmup_share": min(1.0, int(asked["warmup_steps"]) / max(1, steps)),
            "weight_decay": float(asked["weight_decay"]),
            "beta2": float(asked["adam_beta2"]),
            "max_grad_norm": float(asked["max_grad_norm"]),
        },
        "run": {
            **content["run"],
            "seed": int(asked["seed"]),
            "epochs": None if most > 0 else epochs,
            "max_steps": most if most > 0 else None,
            "accumulation": accumulation,
            "log_every": int(asked["logging_steps"]),
            "checkpoint_every": None,
        },
    }
