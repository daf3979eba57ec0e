"""What a fine-tuning job asks of the service, read and judged: hyper-parameters, chats. Pure but for reading files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.errors import ArmError

MAX_BYTES = 512 * 2**20  # "The file must be less than 512 MB in size"
ROLES = ("system", "user", "assistant")
# The small model's own values, which a multiplier multiplies.
BATCH, LEARNING_RATE, EPOCHS = 4, 0.002, 2
# The names of the SDK's samples (first) and those of the portal's wizard.
NAMES = {
    "epochs": ("num_train_epochs", "n_epochs"),
    "learning_rate": ("learning_rate",),
    "learning_rate_multiplier": ("learning_rate_multiplier",),
    "batch": ("per_device_train_batch_size", "batch_size"),
    "batch_multiplier": ("batch_size_multiplier",),
}


@dataclass(frozen=True)
class Asked:
    epochs: int
    learning_rate: float
    batch: int


def hyper_parameters(given: Mapping[str, Any]) -> Asked:
    """ArmError 400 for a name nobody knows, a value that is not a positive number, or two that say the same thing."""
    if unknown := sorted(set(given) - {name for names in NAMES.values() for name in names}):
        raise ArmError(400, "UserError", f"Hyperparameter '{unknown[0]}' is not supported.")
    found: dict[str, float] = {}
    for meaning, names in NAMES.items():
        for name in names:
            if given.get(name) is None:
                continue
            if meaning in found:
                raise ArmError(400, "UserError", f"Hyperparameters {' and '.join(names)} are the same; give one.")
            found[meaning] = _number(name, given[name])
    for one, other in (("learning_rate", "learning_rate_multiplier"), ("batch", "batch_multiplier")):
        if one in found and other in found:
            raise ArmError(400, "UserError", f"Give '{NAMES[one][0]}' or '{NAMES[other][0]}', not both.")
    batch = found.get("batch", BATCH * found.get("batch_multiplier", 1.0))
    epochs = found.get("epochs", EPOCHS)
    if epochs != int(epochs) or ("batch" in found and batch != int(batch)):
        raise ArmError(400, "UserError", "Epochs and batch size must be whole numbers.")
    rate = found.get("learning_rate", LEARNING_RATE * found.get("learning_rate_multiplier", 1.0))
    if rate >= 1:
        raise ArmError(400, "UserError", f"The learning rate comes to {rate:g}: it must be below 1.")
    return Asked(int(epochs), rate, max(1, round(batch)))


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArmError(400, "UserError", f"Hyperparameter '{name}' is '{value}': it must be a positive number.")
    return number


def chats(path: Path, what: str) -> list[str]:
    """The rows of a JSONL file of chats. ArmError 400 naming the first line that is none."""
    if path.stat().st_size >= MAX_BYTES:
        raise ArmError(400, "UserError", f"The {what} file is larger than 512 MB.")
    rows = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    if not rows:
        raise ArmError(400, "UserError", f"The {what} file is empty.")
    for number, row in enumerate(rows, 1):
        if problem := _problem(row):
            raise ArmError(400, "UserError", f"The {what} file is not in the chat format: line {number} {problem}.")
    return rows


def _problem(row: str) -> str:
    try:
        chat = json.loads(row)
    except ValueError:
        return "is not JSON"
    if not isinstance(chat, dict) or set(chat) != {"messages"} or not isinstance(chat["messages"], list):
        return "must be an object with the key 'messages' alone"
    turns = chat["messages"]
    if not all(
        isinstance(turn, dict) and turn.get("role") in ROLES and isinstance(turn.get("content"), str) for turn in turns
    ):
        return f"has a message without a role of {', '.join(ROLES)} or without content"
    return "" if turns and turns[-1]["role"] == "assistant" else "does not end with the assistant's message"


def split(rows: list[str]) -> tuple[list[str], list[str]]:
    """Train and validation rows where nobody gave the latter: every tenth one, at least one. ArmError 400 for one."""
    if len(rows) < 2:
        raise ArmError(400, "UserError", "One training example cannot be split into training and validation data.")
    held = {number for number in range(len(rows)) if number % 10 == 9} or {len(rows) - 1}
    return [row for n, row in enumerate(rows) if n not in held], [rows[n] for n in sorted(held)]


def recipe(asked: Asked, rows: int, base: Path) -> dict[str, Any]:
    """The trainer's recipe: adapters on the small model, a checkpoint after each epoch."""
    phi = "phi3" in str(json.loads((base / "config.json").read_text()).get("model_type"))
    attention = ["qkv_proj"] if phi else ["q_proj", "k_proj", "v_proj"]
    mlp = ["gate_up_proj"] if phi else ["gate_proj", "up_proj"]
    return {
        "name": "as_a_service",
        "base_model": {
            "source": "service",
            "revision": None,
            "chat_template": "phi3" if phi else "chatml",
            "dtype": "bfloat16",
            "attention": "sdpa",
            "quantization": None,
            "keep_eos_token_ids": [],
        },
        "data": {
            "max_length": 512,
            "over_length": "drop",
            "packing": False,
            "sampling": "group_by_length",
            "max_validation_rows": 48,
        },
        "lora": {
            "rank": 16,
            "alpha": 32,
            "dropout": 0.0,
            "targets": [*attention, "o_proj", *mlp, "down_proj"],
            "first_layer": 0,
            "adapter_dtype": "bfloat16",
        },
        "optimizer": {
            "name": "adamw_torch",
            "learning_rate": asked.learning_rate,
            "schedule": "cosine",
            "warmup_share": 0.05,
            "weight_decay": 0.0,
            "beta2": 0.999,
            "max_grad_norm": 1.0,
        },
        "run": {
            "seed": 1,
            "epochs": asked.epochs,
            "max_steps": None,
            "batch_size": asked.batch,
            "accumulation": 1,
            "gradient_checkpointing": False,
            "log_every": 1 if rows * asked.epochs < asked.batch * 50 else 5,
            "eval_every": None,
            "checkpoint_every": -(-rows // asked.batch),
            "keep_best": False,
            "patience": None,
        },
        "scale": {"device": "cpu", "instances": 1, "processes_per_instance": 1, "sharding": "none"},
    }
