"""TRL's SFTTrainer with three changes: it reports as it goes, batches by length, and on a CPU projects only labels."""

from __future__ import annotations

import ctypes
import sys
import types
from typing import Any

from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

from training.chat_data import IGNORED
from training.metrics import Progress
from training.recipe import Recipe
from training.sampling import GroupedSampler

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt(3)


def keep_freed_memory() -> None:
    """Lets glibc keep what a step frees instead of handing it to the kernel and asking for it again.

    On two cores this halved the time of a step. Does nothing where there is no glibc.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(_M_MMAP_THRESHOLD, 2**31 - 1)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def arguments(recipe: Recipe, folder: str) -> SFTConfig:
    """The recipe in TRL's words. Normalisation of the loss by tokens over accumulated batches is TRL's own."""
    import torch

    run, data, optimizer = recipe.run, recipe.data, recipe.optimizer
    gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=folder,
        use_cpu=not gpu,
        bf16=gpu and recipe.base_model.dtype == "bfloat16",
        max_length=data.max_length,
        packing=data.packing,
        dataset_kwargs=None if data.packing else {"skip_prepare_dataset": True},  # tokens and labels are made already
        num_train_epochs=run.epochs or 1,
        max_steps=run.max_steps or -1,
        per_device_train_batch_size=run.batch_size,
        per_device_eval_batch_size=run.batch_size,
        gradient_accumulation_steps=run.accumulation,
        gradient_checkpointing=run.gradient_checkpointing,
        optim=optimizer.name,
        learning_rate=optimizer.learning_rate,
        lr_scheduler_type=optimizer.schedule,
        warmup_steps=optimizer.warmup_share,  # below 1 it is a share of all steps
        weight_decay=optimizer.weight_decay,
        adam_beta2=optimizer.beta2,
        max_grad_norm=optimizer.max_grad_norm,
        eval_strategy="steps" if run.eval_every else "no",
        eval_steps=run.eval_every,
        logging_steps=run.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # a NaN must be seen, not averaged away
        include_num_input_tokens_seen="non_padding",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=run.seed,
        data_seed=run.seed,
    )


class _Report(TrainerCallback):
    def __init__(self, progress: Progress, rows: int) -> None:
        self._progress, self._rows = progress, rows

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        self._progress.start(state.max_steps, self._rows)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **named: Any) -> None:  # noqa: ARG002
        values = named.get("logs") or {}
        self._progress.step(state.global_step, state.max_steps, values, int(state.num_input_tokens_seen))


def add_sparse_loss(model: Any) -> None:
    """Teaches `model.forward` the argument `sparse_loss_items`: then the vocabulary is projected only where a label is.

    Seven of ten tokens here are prompt, and the head is a fifth of the arithmetic of a small model. The loss is the sum
    over labels divided by `sparse_loss_items`, the number of labels in the whole accumulated batch, so that 1×8 equals
    8×1. It lives in `forward` so that data-parallel wrappers see the call.
    """
    import torch

    whole = model.forward

    def forward(self: Any, *, sparse_loss_items: Any = None, **inputs: Any) -> Any:
        if sparse_loss_items is None:
            return whole(**inputs)
        targets = inputs.pop("labels")[:, 1:]
        chosen = targets != IGNORED
        hidden = self.base_model(**inputs).last_hidden_state[:, :-1][chosen]
        logits = self.get_output_embeddings()(hidden).float()
        total = torch.nn.functional.cross_entropy(logits, targets[chosen], reduction="sum")
        return {"loss": total / sparse_loss_items}

    model.forward = types.MethodType(forward, model)


class ChatTrainer(SFTTrainer):
    """Takes examples that are tokens and labels already (see chat_data.py)."""

    def __init__(self, model: Any, progress: Progress, rows: int, grouped: bool, **named: Any) -> None:
        self._grouped = grouped
        super().__init__(model=model, **named)
        self._sparse = self.args.device.type == "cpu"
        if self._sparse:
            add_sparse_loss(model.get_base_model() if hasattr(model, "get_base_model") else model)
        self.remove_callback(PrinterCallback)
        self.add_callback(_Report(progress, rows))

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self._grouped:
            return super()._get_train_sampler(train_dataset)
        lengths = [len(ids) for ids in self.train_dataset["input_ids"]]
        return GroupedSampler(lengths, self.args.train_batch_size * self.args.world_size, self.args.seed)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not self._sparse:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        items = num_items_in_batch if num_items_in_batch is not None else (inputs["labels"][:, 1:] != IGNORED).sum()
        outputs = model(**inputs, use_cache=False, sparse_loss_items=items)
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]
