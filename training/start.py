"""What a run settles before it loads anything: its environment variables, and whether it could end well."""

from __future__ import annotations

import os
from pathlib import Path

from training.errors import TrainingError
from training.recipe import Recipe

# No telemetry, no progress bars in a log file, no warning about forked tokenizers. Threads that wait
# spin for some microseconds and then sleep: not at all costs a quarter of the speed, for long takes the cores from
# others beside us (servers on the same laptop), which was worth a factor of up to seven.
# Memory of the GPU is taken in pieces that can grow, so that rows of differing lengths leave no gaps.
ENVIRONMENT = {
    "GOMP_SPINCOUNT": "10000",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def is_first() -> bool:
    """Whether this is the process that reports and saves."""
    return os.environ.get("RANK", "0") == "0"


def check_place(recipe: Recipe, output: Path, checkpoints: Path | None) -> None:
    """Refuses a run that could not end well. Raises TrainingError."""
    if output.exists() and any(output.iterdir()):
        raise TrainingError(f"{output} is not empty; give --output a folder that is new or empty.")
    if recipe.run.checkpoint_every and not checkpoints:
        raise TrainingError(
            "The recipe writes checkpoints; say where with --checkpoints, or set run.checkpoint_every to null."
        )
    wanted = recipe.scale.instances * recipe.scale.processes_per_instance
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != wanted:
        raise TrainingError(
            f"The recipe is made for {wanted} processes and {started} started; mend scale in the recipe, or start "
            "each process with RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT."
        )


def check_device(recipe: Recipe) -> None:
    """Refuses a recipe for a GPU on a machine without one. Raises TrainingError."""
    import torch

    if recipe.scale.device == "gpu" and not torch.cuda.is_available():
        raise TrainingError(
            f"Recipe {recipe.name} is made for a GPU and this machine has none; take a size with GPUs or cpu_small."
        )
