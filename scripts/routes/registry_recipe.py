"""A recipe of `route: registry`: a model and a pipeline component of the registry, and the component's parameters.

Parameters are named as the component names them (Azure/azureml-assets, assets/training/finetune_acft_hf_nlp, component
chat_completion_pipeline 0.0.82). One that is left out is the model's own default, else the component's.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from scripts.routes.recipes import BaseModelPart, Part

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Unlimited = Annotated[int, Field(ge=-1)]  # -1: no limit
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Component(Part):
    name: Literal["chat_completion_pipeline"]
    version: str  # or "latest"


class Training(Part):
    """What is learnt, and how fast."""

    num_train_epochs: Positive | None = None
    max_steps: Unlimited | None = None
    per_device_train_batch_size: Positive | None = None
    per_device_eval_batch_size: Positive | None = None
    gradient_accumulation_steps: Positive | None = None
    eval_accumulation_steps: Unlimited | None = None
    auto_find_batch_size: bool | None = None
    optim: Literal["adamw_torch", "adafactor"] | None = None
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    lr_scheduler_type: (
        Literal["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"] | None
    ) = None
    warmup_steps: Natural | None = None
    weight_decay: Fraction | None = None
    adam_beta1: Fraction | None = None
    adam_beta2: Fraction | None = None
    adam_epsilon: Annotated[float, Field(gt=0)] | None = None
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    seed: Natural | None = None
    enable_full_determinism: bool | None = None
    max_seq_length: Unlimited | None = None
    pad_to_max_length: bool | None = None
    batch_size: Positive | None = None  # of the tokenizer, not of the training
    dataloader_num_workers: Natural | None = None
    evaluation_strategy: Literal["epoch", "steps"] | None = None  # without an evaluation there is nothing to go by
    evaluation_steps_interval: Fraction | None = None
    eval_steps: Positive | None = None
    logging_strategy: Literal["epoch", "steps"] | None = None
    logging_steps: Positive | None = None
    metric_for_best_model: Literal["loss", "f1", "exact"] | None = None
    save_total_limit: Unlimited | None = None
    resume_from_checkpoint: bool | None = None
    apply_early_stopping: bool | None = None
    early_stopping_patience: Positive | None = None
    early_stopping_threshold: Annotated[float, Field(ge=0)] | None = None
    ignore_mismatched_sizes: bool | None = None


class Optimisation(Part):
    """What makes it fit, and faster."""

    apply_lora: bool | None = None
    merge_lora_weights: Literal[True] | None = None  # our serving code loads whole models
    lora_r: Positive | None = None
    lora_alpha: Positive | None = None
    lora_dropout: Fraction | None = None
    apply_deepspeed: bool | None = None
    deepspeed_stage: Literal[2, 3] | None = None
    apply_ort: bool | None = None
    precision: Literal[16, 32] | None = None
    num_nodes_finetune: Positive = 1
    number_of_gpu_to_use_finetuning: Positive | None = None  # null: all GPUs of an instance
    shm_size_finetune: Annotated[str, Field(pattern=r"^\d+[gm]$")] | None = None


class Recipe(Part):
    route: Literal["registry"]
    name: str
    registry: str
    base_model: BaseModelPart
    component: Component
    force_rerun: bool  # true: no step is answered from an earlier run's cache
    training: Training
    optimisation: Optimisation

    def parameters(self) -> dict[str, Any]:
        """What the recipe sets, by the component's names, as the component takes it."""
        set_here = {
            **self.training.model_dump(exclude_none=True),
            **self.optimisation.model_dump(exclude_none=True),
        }
        return {name: sent(value) for name, value in set_here.items()}


def sent(value: Any) -> Any:
    """Booleans go as "true" and "false", as the component declares them."""
    return str(value).lower() if isinstance(value, bool) else value
