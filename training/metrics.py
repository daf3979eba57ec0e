"""What a run reports: progress lines for whoever follows the log, MLflow where a server is set, and one JSON file."""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from training.errors import TrainingFailed

METRICS_FILE = Path("outputs/training_metrics.json")


class LossPoint(BaseModel):
    step: int
    loss: float = Field(allow_inf_nan=False)


class TrainingMetrics(BaseModel):
    """`outputs/training_metrics.json` of a job; no value is ever NaN."""

    model_config = ConfigDict(extra="forbid")
    loss: list[LossPoint] = Field(min_length=1)
    eval_loss: float = Field(allow_inf_nan=False)
    tokens_per_second: float = Field(gt=0, allow_inf_nan=False)  # without padding
    train_seconds: float = Field(gt=0, allow_inf_nan=False)
    eval_seconds: float = Field(gt=0, allow_inf_nan=False)
    trained_tokens: int = Field(gt=0)  # without padding, prompts included
    peak_memory_mb: int = Field(gt=0)  # of the GPU where there is one, else resident memory of the process
    model_digest: str
    base_model_digest: str
    steps: int = Field(gt=0)

    def write(self, path: Path = METRICS_FILE) -> None:
        """Writes the file whole or not at all, under the job's working folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        beside.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        beside.replace(path)


def peak_memory_mb() -> int:
    """Highest memory so far in MiB: allocated on the GPU, or resident in RAM (Linux counts in KiB)."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated() // 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Tracker:
    """Writes to MLflow when MLFLOW_TRACKING_URI is set, else does nothing. A tracking server that fails costs one
    line on stderr, never the run: the metrics file stays the record.
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._mlflow: Any = None
        if os.environ.get("MLFLOW_TRACKING_URI"):
            import mlflow

            self._mlflow = mlflow
            self._try(mlflow.start_run)  # goes on with MLFLOW_RUN_ID where the job set it
            self._try(mlflow.log_params, parameters)

    def log(self, values: dict[str, float], step: int) -> None:
        if self._mlflow:
            self._try(self._mlflow.log_metrics, values, step=step)

    def finish(self, status: str) -> None:
        """Ends the run as `FINISHED` or `FAILED`."""
        if self._mlflow:
            self._try(self._mlflow.end_run, status)

    def _try(self, call: Any, *arguments: Any, **named: Any) -> None:
        if self._mlflow is None:  # it failed before
            return
        try:
            call(*arguments, **named)
        except Exception as error:
            print(f"warning: MLflow could not be written to ({error}); training goes on without it", file=sys.stderr)
            with suppress(Exception):
                self._mlflow.end_run("FAILED")
            self._mlflow = None


class Progress:
    """Collects the loss curve and prints a line at each log step. Stops the run at the first loss that is no number."""

    def __init__(self, tracker: Tracker) -> None:
        self.loss: list[LossPoint] = []
        self._tracker = tracker
        self._started = time.monotonic()

    def start(self, steps: int, rows: int) -> None:
        self._started = time.monotonic()
        print(f"training: {rows} chats, {steps} steps", flush=True)

    def step(self, step: int, steps: int, values: dict[str, float], tokens: int) -> None:
        """`values` are the trainer's log entry at `step` of `steps`; `tokens` were trained so far (no padding)."""
        if "loss" not in values:
            return
        loss = values["loss"]
        if not math.isfinite(loss):
            raise TrainingFailed(f"The loss became {loss} at step {step}; lower optimizer.learning_rate in the recipe.")
        self.loss.append(LossPoint(step=step, loss=round(loss, 5)))
        seconds = time.monotonic() - self._started
        speed = tokens / seconds if seconds else 0.0
        left = seconds / step * (steps - step)
        print(
            f"step {step}/{steps} loss {loss:.4f} lr {values.get('learning_rate', 0.0):.2e} "
            f"{speed:.0f} tokens/s {left:.0f} s left",
            flush=True,
        )
        self._tracker.log({"loss": loss, "tokens_per_second": speed, "trained_tokens": float(tokens)}, step)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters as `part.key: value`, the way MLflow lists them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list) else value
    return flat
