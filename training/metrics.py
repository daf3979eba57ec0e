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
RATES = ("tokens_per_second", "loss_tokens_per_second", "mfu", "data_wait_share", "peak_memory_mb")


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
    perplexity: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # of the validation split, by label
    token_accuracy: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    loss_tokens_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    mfu: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # None where no data sheet says the peak
    data_wait_share: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    device: str | None = None
    processes: int | None = Field(default=None, gt=0)
    resumed_from_step: int | None = None

    def numbers(self) -> dict[str, float]:
        """What of it is a number, for MLflow."""
        return {name: float(value) for name, value in self.model_dump().items() if isinstance(value, int | float)}

    def write(self, path: Path = METRICS_FILE) -> None:
        """Writes the file whole or not at all, under the job's working folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        beside.write_text(self.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")
        beside.replace(path)


def measured(trainer: Any, judged: dict[str, float], base_digest: str, resumed: Path | None) -> dict[str, Any]:
    """Every field of TrainingMetrics but the digest of the model, which is not saved yet."""
    loss, total = round(float(judged["eval_loss"]), 5), trainer.meter.total
    return {
        "loss": trainer.progress.loss,
        "eval_loss": loss,
        "perplexity": round(perplexity(loss), 5),
        "token_accuracy": round(float(judged["eval_token_accuracy"]), 5),
        **{name: round(rate, 4) for name, rate in trainer.meter.rates(total).items()},
        "train_seconds": round(total.seconds, 2),
        "eval_seconds": float(judged["eval_runtime"]),
        "trained_tokens": total.tokens,
        "peak_memory_mb": peak_memory_mb(),
        "base_model_digest": base_digest,
        "steps": int(trainer.state.global_step),
        "device": trainer.meter.device,
        "processes": trainer.args.world_size,
        "resumed_from_step": int(resumed.name.rpartition("-")[2]) if resumed else None,
    }


def peak_memory_mb() -> int:
    """Highest memory so far in MiB: allocated on the GPU, or resident in RAM (Linux counts in KiB)."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated() // 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Tracker:
    """Writes to MLflow when MLFLOW_TRACKING_URI is set and this process is the one to do it, else does nothing.

    A tracking server that fails costs one line on stderr, never the run: the metrics file stays the record.
    """

    def __init__(self, parameters: dict[str, Any], active: bool = True) -> None:
        self._mlflow: Any = None
        if active and os.environ.get("MLFLOW_TRACKING_URI"):
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
        self._started, self._first = time.monotonic(), 0

    def start(self, step: int, steps: int, rows: int, history: list[dict[str, float]]) -> None:
        """`history`: what a run that is resumed at `step` logged before."""
        self._started, self._first = time.monotonic(), step
        self.loss = [LossPoint(step=int(e["step"]), loss=round(e["loss"], 5)) for e in history if "loss" in e]
        where = f", going on after step {step}" if step else ""
        print(f"training: {rows} rows, {steps} steps{where}", flush=True)

    def step(self, step: int, steps: int, values: dict[str, float], tokens: int) -> None:
        """`values` are the trainer's log entry at `step` of `steps`; `tokens` were trained so far (no padding)."""
        if "eval_loss" in values:
            judged = {"eval_loss": values["eval_loss"], "eval_token_accuracy": values["eval_token_accuracy"]}
            self._tracker.log(judged | {"perplexity": perplexity(values["eval_loss"])}, step)
            print(f"step {step}/{steps} validation loss {values['eval_loss']:.4f}", flush=True)
        if "loss" not in values:
            return
        loss = values["loss"]
        if not math.isfinite(loss):
            raise TrainingFailed(f"The loss became {loss} at step {step}; lower optimizer.learning_rate in the recipe.")
        self.loss.append(LossPoint(step=step, loss=round(loss, 5)))
        seconds = time.monotonic() - self._started
        rates = {name: values[name] for name in RATES if name in values}
        speed = rates.get("tokens_per_second", 0.0)
        left = seconds / max(1, step - self._first) * (steps - step)
        print(
            f"step {step}/{steps} loss {loss:.4f} lr {values.get('learning_rate', 0.0):.2e} "
            f"{speed:.0f} tokens/s {left:.0f} s left",
            flush=True,
        )
        self._tracker.log({"loss": loss, "trained_tokens": float(tokens)} | rates, step)


def perplexity(loss: float) -> float:
    """e to the loss, or the largest number there is where that has no room."""
    return math.exp(min(loss, 700.0))


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters as `part.key: value`, the way MLflow lists them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list) else value
    return flat
