"""One fine-tuning job, read from top to bottom: recipe, model, data, training, one merged model folder and its numbers.

    python train.py --recipe recipes/cpu_demo.yaml --base-model DIR --data DIR --output DIR

`--data` holds train.jsonl and validation.jsonl (chats, `messages` format). The model goes to `--output`, the numbers to
`outputs/training_metrics.json` in the current folder. Exit codes: 0 done, 1 the training went wrong, 3 invalid input.
`--check` judges the recipe alone. Limits: one process, no checkpoints to resume from.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import random
import sys
import tempfile
import types
import warnings
from pathlib import Path

if not __package__:  # run as a script from a code snapshot: whatever its folder is called, this folder is `training`
    snapshot = types.ModuleType("training")
    snapshot.__path__ = [str(Path(__file__).resolve().parent)]
    sys.modules["training"] = snapshot

from training.chat_data import load_examples
from training.digest import folder_digest
from training.errors import TrainingError, TrainingFailed
from training.metrics import Progress, Tracker, TrainingMetrics, flatten, peak_memory_mb
from training.recipe import Recipe, load_recipe

# No telemetry, no progress bars in a log file, no warning about forked tokenizers. Threads that wait sleep instead of
# spinning: where others compute beside us (servers on the same laptop) that was worth a factor of up to seven.
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def train(recipe: Recipe, base: str, data: Path, output: Path) -> TrainingMetrics:
    """Fine-tunes `base` (folder or hub name) on the chats in `data` and saves the merged model to `output`.

    Raises TrainingError for bad data or a bad model, TrainingFailed when the loss stops being a number or no model with
    finite weights results.
    """
    if output.exists() and any(output.iterdir()):
        raise TrainingError(f"{output} is not empty; give --output a folder that is new or empty.")
    local = Path(base).is_dir()
    print("loading libraries and model", flush=True)
    gc.disable()  # what an import makes stays; looking for rubbish in it was 40 % of the start (tests/bench/startup.py)
    import torch
    from datasets import Dataset
    from transformers import set_seed

    from training.model import add_lora, load_model, load_tokenizer, merged, save, stop_ids
    from training.trainer import ChatTrainer, arguments, keep_freed_memory

    gc.freeze()
    gc.enable()
    keep_freed_memory()
    set_seed(recipe.run.seed)
    tokenizer, end_of_turn = load_tokenizer(recipe, base)

    # Data before the model: a fault in it should cost seconds.
    limits = (recipe.data.max_length, recipe.data.over_length)
    examples = {split: load_examples(data / f"{split}.jsonl", tokenizer, *limits) for split in ("train", "validation")}
    if (most := recipe.data.max_validation_rows) and most < len(examples["validation"]):
        examples["validation"] = random.Random(recipe.run.seed).sample(examples["validation"], most)  # noqa: S311
    for split, rows in examples.items():
        tokens = sum(len(row["input_ids"]) for row in rows)
        print(f"{split}: {len(rows)} chats, {tokens} tokens", flush=True)

    model = load_model(recipe, base)
    stops = stop_ids(model, tokenizer, recipe, end_of_turn)
    if recipe.lora:
        model = add_lora(model, recipe.lora)
    tracker = Tracker(flatten(recipe.model_dump()))
    progress = Progress(tracker)
    status = "FAILED"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            trainer = ChatTrainer(
                model,
                progress,
                rows=len(examples["train"]),
                grouped=recipe.data.sampling == "group_by_length",
                args=arguments(recipe, scratch),
                train_dataset=Dataset.from_list(examples["train"]),
                eval_dataset=Dataset.from_list(examples["validation"]),
                processing_class=tokenizer,
            )
            result = trainer.train()
            print("evaluating on the validation split", flush=True)
            judged = trainer.evaluate()

        print("merging and saving", flush=True)
        plain = merged(trainer.model)
        if not all(bool(torch.isfinite(weight).all()) for weight in plain.parameters()):
            raise TrainingFailed("The trained weights are not all finite; lower optimizer.learning_rate.")
        save(plain, tokenizer, stops, output)

        seconds = float(result.metrics["train_runtime"])
        tokens = int(trainer.state.num_input_tokens_seen)
        metrics = TrainingMetrics(
            loss=progress.loss,
            eval_loss=round(float(judged["eval_loss"]), 5),
            tokens_per_second=round(tokens / seconds, 1),
            train_seconds=round(seconds, 2),
            eval_seconds=float(judged["eval_runtime"]),
            trained_tokens=tokens,
            peak_memory_mb=peak_memory_mb(),
            model_digest=folder_digest(output),
            base_model_digest=folder_digest(Path(base)) if local else f"{base}@{recipe.base_model.revision}",
            steps=int(trainer.state.global_step),
        )
        metrics.write()
        numbers = {name: value for name, value in metrics.model_dump().items() if isinstance(value, int | float)}
        tracker.log({name: float(value) for name, value in numbers.items()}, metrics.steps)
        status = "FINISHED"
    finally:
        tracker.finish(status)
    return metrics


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True, help="YAML file, see recipes/")
    parser.add_argument("--base-model", help="folder of the base model (default: the recipe's hub name and revision)")
    parser.add_argument("--data", type=Path, help="folder with train.jsonl and validation.jsonl")
    parser.add_argument("--output", type=Path, help="new or empty folder for the trained model")
    parser.add_argument("--check", action="store_true", help="check the recipe and stop")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the pinned libraries; nothing a user could act on
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    atexit.register(gc.freeze)  # the end does not look through it all once more
    try:
        recipe = load_recipe(args.recipe)
        if args.check:
            return 0
        if not (args.data and args.output):
            raise TrainingError("Training needs --data and --output; only --check does without.")
        if args.base_model and not Path(args.base_model).is_dir():
            raise TrainingError(f"--base-model {args.base_model} is not a folder; give the folder of a saved model.")
        metrics = train(recipe, args.base_model or recipe.base_model.source, args.data, args.output)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except TrainingFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    speed = f"{metrics.steps} steps, {metrics.tokens_per_second:.0f} tokens/s, {metrics.peak_memory_mb} MB"
    print(f"done: eval loss {metrics.eval_loss:.4f}, {speed}; the model is in {args.output}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
