"""TRL's SFTTrainer with what it lacks: tokens that count, chats kept apart without padding, checkpoints to rely on.

On a CPU it also projects only labels onto the vocabulary; on a GPU the fused head of TRL does as well.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer

from training import checkpoints
from training.chat_data import lengths_of
from training.metrics import Progress, peak_memory_mb
from training.packing import flatten_rows
from training.recipe import Recipe
from training.rows import Rows
from training.sampling import OrderedSampler
from training.speed import Counts, Meter, shape_of
from training.step import add_sparse_loss, judge


def arguments(recipe: Recipe, folder: str, checkpointing: bool) -> SFTConfig:
    """The recipe in TRL's words. Normalisation of the loss by tokens over accumulated batches is TRL's own."""
    run, optimizer, scale = recipe.run, recipe.optimizer, recipe.scale
    gpu = scale.device == "gpu" and torch.cuda.is_available()
    return SFTConfig(
        output_dir=folder,
        use_cpu=not gpu,
        bf16=gpu,  # products in bf16, whatever the weights are kept in
        max_length=recipe.data.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},  # tokens, labels and rows are made already
        num_train_epochs=run.epochs or 1,
        max_steps=run.max_steps or -1,
        per_device_train_batch_size=run.batch_size,
        per_device_eval_batch_size=run.batch_size,
        gradient_accumulation_steps=run.accumulation,
        gradient_checkpointing=checkpointing and scale.sharding == "none",
        ddp_backend="gloo" if not gpu and "WORLD_SIZE" in os.environ else None,
        ddp_find_unused_parameters=False,
        fsdp=scale.sharding == "full",
        fsdp_config={"activation_checkpointing": checkpointing} if scale.sharding == "full" else None,
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
        include_num_input_tokens_seen="no",  # see speed.py
        save_strategy="steps" if run.checkpoint_every else "no",
        save_steps=run.checkpoint_every or 1,
        save_total_limit=2,  # the one before stays until the new one is whole
        load_best_model_at_end=run.keep_best,
        metric_for_best_model="eval_loss" if run.keep_best else None,
        greater_is_better=False if run.keep_best else None,
        restore_callback_states_from_checkpoint=bool(run.patience),
        report_to=[],
        disable_tqdm=True,
        seed=run.seed,
        data_seed=run.seed,
    )


class _AlreadyDone(Exception):
    """The checkpoint is one of a run that had come to its end: the library would train one step more."""


class _Report(TrainerCallback):
    """Passes on what is logged, from the first process alone."""

    def __init__(self, trainer: ChatTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        trainer = self._trainer
        if state.global_step and (mark := checkpoints.read_mark(trainer.checkpoint(state.global_step))):
            trainer.meter.total = Counts(**mark["kept"])
        trainer.meter.start()
        if best := state.best_model_checkpoint:  # the mount of an earlier run may have had another path
            state.best_model_checkpoint = str(Path(args.output_dir) / Path(best).name)
        if state.is_world_process_zero:
            rows = len(trainer.train_dataset)
            self._trainer.progress.start(state.global_step, state.max_steps, rows, state.log_history)
        flags = state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if state.global_step and flags.get("should_training_stop"):
            raise _AlreadyDone

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **named: Any) -> None:  # noqa: ARG002
        if state.is_world_process_zero:
            self._trainer.progress.step(
                state.global_step, state.max_steps, named.get("logs") or {}, self._trainer.meter.total.tokens
            )


class ChatTrainer(SFTTrainer):
    """Takes examples that are tokens and labels already (see chat_data.py), as rows of several chats or one by one."""

    def __init__(
        self, model: Any, tokenizer: Any, rows: Rows, recipe: Recipe, args: SFTConfig, progress: Progress, run: str
    ) -> None:
        self.recipe, self.progress, self._run = recipe, progress, run
        flat = recipe.data.packing or recipe.base_model.attention in ("varlen", "flash_attention_2")
        super().__init__(
            model=model,
            args=args,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list([rows.train[0]]),  # it looks at the columns of a `Dataset`, no more
            eval_dataset=Dataset.from_list([rows.validation[0]]),
            data_collator=flatten_rows if flat else None,
        )
        self.train_dataset, self.eval_dataset = rows.train, rows.validation  # which stay where they are mapped
        gpu = self.args.device.type == "cuda"
        device = torch.cuda.get_device_name() if gpu else "CPU"
        self.meter = Meter(shape_of(model), device, self.args.world_size)
        self.sparse = not gpu
        if self.sparse:
            add_sparse_loss(model.get_base_model() if hasattr(model, "get_base_model") else model)
        self.remove_callback(PrinterCallback)
        self.add_callback(_Report(self))
        if recipe.run.patience:
            self.add_callback(EarlyStoppingCallback(early_stopping_patience=recipe.run.patience))

    def run(self, resume: Path | None) -> None:
        """Train from the beginning or from a checkpoint, to the end; afterwards the model is the one to keep."""
        if self.is_world_process_zero():
            checkpoints.remove_incomplete(Path(self.args.output_dir))
        try:
            self.train(resume_from_checkpoint=str(resume) if resume else None)
        except _AlreadyDone:
            if self.args.load_best_model_at_end:
                self._load_best_model()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:  # noqa: ARG002
        batch = self.args.train_batch_size * self.args.world_size
        return OrderedSampler(self.recipe.data.sampling, lengths_of(self.train_dataset), batch, self.args.seed)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        started = time.perf_counter()
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.meter.window.waited += time.perf_counter() - started
        for inputs in samples:
            self.meter.batch(inputs)
        return samples, items

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not self.sparse:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs = model(**inputs, use_cache=False, sparse_loss=True)
        # `num_items_in_batch` counts the labels of every process, and DDP averages the gradients over them.
        loss = outputs["loss"] / num_items_in_batch * self.args.world_size
        return (loss, outputs) if return_outputs else loss

    def evaluation_loop(self, dataloader: Any, description: str, *_: Any, **named: Any) -> EvalLoopOutput:  # noqa: ARG002
        """Loss and accuracy per label over the whole split, whatever the batches and however many processes."""
        started = time.perf_counter()
        prefix = named.get("metric_key_prefix", "eval")
        rows = self.eval_dataset
        labels, loss, right = judge(self, rows, self.args.per_device_eval_batch_size)
        self.meter.pause(time.perf_counter() - started)
        metrics = {f"{prefix}_loss": loss / labels, f"{prefix}_token_accuracy": right / labels}
        return EvalLoopOutput(predictions=(), label_ids=None, metrics=metrics, num_samples=len(rows))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self.close_window() | {"peak_memory_mb": float(peak_memory_mb())}
        super().log(logs, start_time)

    def close_window(self) -> dict[str, float]:
        window = self.meter.window
        own = torch.tensor([[float(window.tokens), float(window.labels), window.flops]], dtype=torch.float64)
        if self.args.world_size > 1:
            own = self.accelerator.gather(own.float().to(self.args.device)).double().cpu()
        return self.meter.close(own.sum(0).tolist())

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes its own random states
        if self.is_world_process_zero():
            done = Counts(**vars(self.meter.total))
            done.add(self.meter.since())
            checkpoints.seal(self.checkpoint(self.state.global_step), self._run, vars(done))

    def checkpoint(self, step: int) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{step}"

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Weights of a checkpoint. Adapters keep their own dtype, which peft's loader would turn into fp32."""
        if self.recipe.lora is None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        weights = load_file(Path(resume_from_checkpoint) / "adapter_model.safetensors")
        set_peft_model_state_dict(self.accelerator.unwrap_model(model or self.model), weights)

    def _load_best_model(self) -> None:
        if self.recipe.lora is None:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))
