"""The steps of `chat_completion_pipeline`, each a function that works on what the steps before it left."""

from __future__ import annotations

import ast
import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from emulator import registries, service_models
from emulator.child_env import child_environment
from emulator.context import Emulator
from emulator.errors import ArmError
from emulator.finetuning_rules import ROLES, split
from emulator.job_files import Plan
from emulator.job_runner import JobRun, _execute
from emulator.pipeline_rules import recipe
from emulator.quota import size_of
from emulator.storage import locate
from emulator.store import Resource

TRAINER = service_models.ROOT / "training" / "train.py"
Points = list[tuple[str, float, int]]  # metrics of a step: name, value, training step


@dataclass
class Work:
    """One run of the component. `outputs`: local folders by the component's own names for them."""

    emulator: Emulator
    workspace: Resource
    inputs: Mapping[str, str]
    cluster: Resource | None
    outputs: Mapping[str, Path]
    base: Path | None = None
    data: Path | None = None
    rows: int = 0
    trained: Path | None = None
    told: dict[str, Any] = field(default_factory=dict)  # the trainer's numbers

    @property
    def size(self) -> str:
        if self.cluster is None:
            return self.inputs["instance_type_finetune"]
        return str(self.cluster["properties"]["properties"]["vmSize"])


def validate(work: Work, _run: JobRun) -> Points:
    """What would only fail once the GPUs are there: the size, their number, the data."""
    if not work.inputs.get("train_file_path"):
        raise ArmError(400, "UserError", "One of train_file_path and train_mltable_path must be given.")
    if not work.inputs.get("mlflow_model_path"):
        raise ArmError(400, "NotSupported", "The local Azure ML fine-tunes models of the registry: mlflow_model_path.")
    entry, version = registries.find(work.inputs["mlflow_model_path"], "models")
    tags = registries.versioned("models", entry, version)["properties"]["tags"]
    allowed = ast.literal_eval(tags.get("finetune_compute_allow_list", "[]"))
    if allowed and work.size.lower() not in [each.lower() for each in allowed]:
        message = f"VM size {work.size} is not in the allow-listed computes for finetuning {entry['name']}: {allowed}."
        raise ArmError(400, "UserError", message)
    known, wanted = size_of(work.size), int(work.inputs["number_of_gpu_to_use_finetuning"])
    if known and wanted > known.gpus:
        message = f"number_of_gpu_to_use_finetuning is {wanted}, and {work.size} has {known.gpus}."
        raise ArmError(400, "UserError", message)
    return []


def import_model(work: Work, _run: JobRun) -> Points:
    work.base = service_models.weights()
    return []


def preprocess(work: Work, run: JobRun) -> Points:
    """The files as the trainer wants them. Without validation data the training rows are split."""
    work.data = run.folder / "data"
    work.data.mkdir()
    train = _chats(work, run, "train_file_path")
    validation = _chats(work, run, "validation_file_path") if work.inputs.get("validation_file_path") else []
    if not validation:
        train, validation = split(train)
    work.rows = len(train)
    for name, rows in (("train", train), ("validation", validation)):
        numbered = ({"id": f"{name}-{n}", "messages": json.loads(row)["messages"]} for n, row in enumerate(rows))
        text = "".join(f"{json.dumps(row)}\n" for row in numbered)
        (work.data / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return [("train_rows", float(len(train)), 0), ("validation_rows", float(len(validation)), 0)]


def _chats(work: Work, run: JobRun, name: str) -> list[str]:
    """The rows of an input file; columns besides `messages` (prompt, prompt_id) are left alone."""
    dest = run.folder / name
    dest.mkdir()
    uri = work.inputs[name]
    work.emulator.storage.download(*locate(work.emulator, work.workspace, uri), dest)
    files = [path for path in dest.rglob("*") if path.is_file()]
    if len(files) != 1:
        raise ArmError(400, "UserError", f"{name}: there is no single file at '{uri}'.")
    rows = [line for line in files[0].read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if not _is_chat(row):
            raise ArmError(400, "UserError", f"{name}: line {number} has no 'messages' of role and content.")
    if not rows:
        raise ArmError(400, "UserError", f"{name}: the file is empty.")
    return rows


def _is_chat(row: str) -> bool:
    try:
        turns = json.loads(row)["messages"]
        return bool(turns) and all(
            turn["role"] in ROLES and isinstance(turn["content"], str) and turn["content"] for turn in turns
        )
    except (ValueError, KeyError, TypeError):
        return False


def finetune(work: Work, run: JobRun) -> Points:
    """Train, as a process of its own; its numbers under the names that the Hugging Face trainer logs them by."""
    assert work.base is not None  # noqa: S101 (the steps before left both)
    assert work.data is not None  # noqa: S101
    code, work.trained = run.folder / "code", run.folder / "model"
    for made in (code / "outputs", run.folder / "tmp"):
        made.mkdir(parents=True)
    (code / "recipe.yaml").write_text(yaml.safe_dump(recipe(work.inputs, work.rows, work.base)))
    command = (
        f"'{sys.executable}' '{TRAINER}' --recipe recipe.yaml --base-model '{work.base}' --data '{work.data}' "
        f"--output '{work.trained}'"
    )
    environment = {**child_environment(work.emulator), "HOME": str(run.folder), "TMPDIR": str(run.folder / "tmp")}
    if code_of := _execute(run, Plan(command, environment, code, []), None):
        said = run.log_file.read_text(errors="replace").strip().splitlines()
        reason = said[-1][-500:] if said else "no reason"
        raise ArmError(400, "UserError", f"The fine-tuning process ended with exit code {code_of}: {reason}")
    told = work.told = json.loads((code / "outputs" / "training_metrics.json").read_text())
    last, losses = told["steps"], [each["loss"] for each in told["loss"]]
    points: Points = [("loss", each["loss"], each["step"]) for each in told["loss"]]
    points += [("train_loss", sum(losses) / len(losses), last), ("eval_loss", told["eval_loss"], last)]
    points += [("train_runtime", told["train_seconds"], last), ("eval_runtime", told["eval_seconds"], last)]
    if kept := work.outputs.get("pytorch_model_folder"):
        shutil.copytree(work.trained, kept, dirs_exist_ok=True)
    return points


def convert(work: Work, _run: JobRun) -> Points:
    """The model in MLflow's form as the component leaves it: what it is in `MLmodel`, and in `data` its parts apart.

    Flavour and folders are those of Microsoft's package azureml-evaluate-mlflow, the metadata those of its fine-tuning.
    """
    assert work.trained is not None  # noqa: S101 (the step before left it)
    if kept := work.outputs.get("mlflow_model_folder"):
        for file in work.trained.iterdir():
            is_tokenizer = file.name.startswith(("tokenizer", "special_tokens", "chat_template", "vocab", "merges"))
            parts = (
                ("tokenizer",) if is_tokenizer else ("model", "config") if file.name == "config.json" else ("model",)
            )
            for part in parts:
                (kept / "data" / part).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, kept / "data" / part / file.name)
        (kept / "MLmodel").write_text(yaml.safe_dump(_described(work.inputs["mlflow_model_path"])))
    return []


# How the names of a tokenizer's files begin.
TOKENIZER = ("tokenizer", "special_tokens", "chat_template", "vocab", "merges")


def _described(base: str) -> dict[str, Any]:
    entry, _ = registries.find(base, "models")
    return {
        "flavors": {
            "hftransformersv2": {"code": None, "model_data": "data", "task_type": "chat-completion"},
            "python_function": {"data": "data", "loader_module": "azureml.evaluate.mlflow.hftransformers"},
        },
        "metadata": {
            "base_model_asset_id": base,
            "base_model_name": entry["name"],
            "finetuning_task": "chat-completion",
            "is_acft_model": True,
            "is_finetuned_model": True,
        },
    }


def compute_metrics(work: Work, _run: JobRun) -> Points:
    """Of the validation rows alone: the emulator makes no predictions."""
    return [("perplexity", math.exp(min(50.0, work.told["eval_loss"])), work.told["steps"])]


STEPS: dict[str, Callable[[Work, JobRun], Points]] = {
    "ft_nlp_common_validation": validate,
    "chat_completion_model_import": import_model,
    "chat_completion_datapreprocess": preprocess,
    "chat_completion_finetune": finetune,
    "chat_completion_model_converter": convert,
    "compute_metrics": compute_metrics,
}
# What a step cannot do without.
NEEDS: dict[str, tuple[str, ...]] = {
    "ft_nlp_common_validation": (),
    "chat_completion_model_import": ("ft_nlp_common_validation",),
    "chat_completion_datapreprocess": ("chat_completion_model_import",),
    "chat_completion_finetune": ("chat_completion_model_import", "chat_completion_datapreprocess"),
    "chat_completion_model_converter": ("chat_completion_finetune",),
    "compute_metrics": ("chat_completion_model_converter",),
}
