"""One fine-tuning job, read from top to bottom: recipe, data, model, training, one merged model folder and its numbers.

    python train.py --recipe recipes/cpu_demo.yaml --base-model DIR --data DIR --output DIR

`--data` holds train.jsonl and validation.jsonl (chats, `messages` format). The model goes to `--output`, the numbers to
`outputs/training_metrics.json` in the current folder. A second start with the same `--checkpoints` goes on where the
first was killed. Several processes find each other by RANK, WORLD_SIZE and MASTER_ADDR, as Azure ML sets them.
Exit codes: 0 done, 1 the training went wrong, 3 invalid input. `--check` judges the recipe alone.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import os
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any

if not __package__:  # run as a script from a code snapshot: whatever its folder is called, this folder is `training`
    snapshot = types.ModuleType("training")
    snapshot.__path__ = [str(Path(__file__).resolve().parent)]
    sys.modules["training"] = snapshot

from training.card import card
from training.checkpoints import latest
from training.digest import folder_digest
from training.errors import TrainingError, TrainingFailed
from training.memory import choose_checkpointing, free_bytes, is_out_of_memory, what_to_lower
from training.metrics import Progress, Tracker, TrainingMetrics, flatten, measured
from training.recipe import Recipe, load_recipe
from training.rows import Rows, load_rows, run_digest
from training.start import ENVIRONMENT, check_device, check_place, is_first


def train(
    recipe: Recipe, base: str, data: Path, output: Path, checkpoints: Path | None = None, adapter: Path | None = None
) -> TrainingMetrics | None:
    """Fine-tunes `base` (folder or hub name) on the chats in `data` and saves the merged model to `output`.

    Goes on from the newest complete checkpoint in `checkpoints`. Returns None in all processes but the first. Raises
    TrainingError for bad input, TrainingFailed when no model with finite weights results or memory runs out.
    """
    check_place(recipe, output, checkpoints)
    print("loading libraries and model", flush=True)
    gc.disable()  # what an import makes stays; looking for rubbish in it was 40 % of the start (tests/bench/startup.py)
    from transformers import set_seed

    from training import model as models
    from training.step import keep_freed_memory
    from training.trainer import ChatTrainer, arguments

    gc.freeze()
    gc.enable()
    keep_freed_memory()
    check_device(recipe)
    set_seed(recipe.run.seed)
    tokenizer, end_of_turn = models.load_tokenizer(recipe, base)

    # Data before the model: a fault in it should cost seconds.
    rows = load_rows(recipe, tokenizer, base, data)
    base_digest = folder_digest(Path(base)) if Path(base).is_dir() else f"{base}@{recipe.base_model.revision}"
    run = run_digest(recipe, rows, base_digest)
    resume = latest(checkpoints, run) if checkpoints else None

    model = models.load_model(recipe, base)
    stops = models.stop_ids(model, tokenizer, recipe, end_of_turn)
    if recipe.lora:
        model = models.add_lora(model, recipe.lora)
    checkpointing = choose_checkpointing(recipe, model, rows.longest, free_bytes(recipe.scale.device == "gpu"))
    tracker = Tracker(flatten(recipe.model_dump()), active=is_first())
    progress = Progress(tracker)
    status, trainer = "FAILED", None
    try:
        with tempfile.TemporaryDirectory() as scratch:
            settings = arguments(recipe, str(checkpoints or scratch), checkpointing)
            trainer = ChatTrainer(model, tokenizer, rows, recipe, settings, progress, run)
            trainer.run(resume)
        metrics = finish(trainer, rows, base, base_digest, output, adapter, stops, resume)
        if metrics:
            tracker.log(metrics.numbers(), metrics.steps)
        status = "FINISHED"
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        step = trainer.state.global_step + 1 if trainer else 1
        raise TrainingFailed(f"Out of memory at step {step}; {what_to_lower(recipe, checkpointing)}.") from error
    finally:
        tracker.finish(status)
    return metrics


def finish(
    trainer: Any,
    rows: Rows,
    base: str,
    base_digest: str,
    output: Path,
    adapter: Path | None,
    stops: set[int],
    resumed: Path | None,
) -> TrainingMetrics | None:
    """Judges the trained model and writes what is kept of it: adapter, merged model with its card, and the numbers."""
    from training import model as models

    trainer.close_window()
    print("evaluating on the validation split", flush=True)
    judged = trainer.evaluate()
    state = models.gathered(trainer)
    if not is_first():
        return None
    print("merging and saving", flush=True)
    recipe, trained = trainer.recipe, trainer.accelerator.unwrap_model(trainer.model)
    if adapter:
        models.save_adapter(trained, adapter)
    plain = models.merged(trained, recipe, base) if state is None else trained
    models.check_finite(state or plain.state_dict())
    numbers = measured(trainer, judged, base_digest, resumed)
    readme = card(recipe, rows, numbers, trainer.meter.total.flops)
    models.save(plain, trainer.processing_class, stops, output, readme, state)
    metrics = TrainingMetrics(model_digest=folder_digest(output), **numbers)
    metrics.write()
    return metrics


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True, help="YAML file, see recipes/")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a value: optimizer.learning_rate=1")
    parser.add_argument("--base-model", help="folder of the base model (default: the recipe's hub name and revision)")
    parser.add_argument("--data", type=Path, help="folder with train.jsonl and validation.jsonl")
    parser.add_argument("--output", type=Path, help="new or empty folder for the trained model")
    parser.add_argument("--checkpoints", type=Path, help="folder that outlives the machine: a run goes on from there")
    parser.add_argument("--adapter", type=Path, help="folder for the adapters alone, beside the merged model")
    parser.add_argument("--check", action="store_true", help="check the recipe and stop")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the pinned libraries; nothing a user could act on
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    atexit.register(gc.freeze)  # the end does not look through it all once more
    with contextlib.ExitStack() as stack:
        if not is_first():  # all would say the same
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        try:
            recipe = load_recipe(args.recipe, args.set)
            if args.check:
                return 0
            if not (args.data and args.output):
                raise TrainingError("Training needs --data and --output; only --check does without.")
            if args.base_model and not Path(args.base_model).is_dir():
                raise TrainingError(
                    f"--base-model {args.base_model} is not a folder; give the folder of a saved model."
                )
            base = args.base_model or recipe.base_model.source
            metrics = train(recipe, base, args.data, args.output, args.checkpoints, args.adapter)
        except (TrainingError, TrainingFailed) as error:
            print(f"error: {error}", file=sys.stderr)
            return 3 if isinstance(error, TrainingError) else 1
        if metrics:
            speed = f"{metrics.steps} steps, {metrics.tokens_per_second:.0f} tokens/s, {metrics.peak_memory_mb} MB"
            print(f"done: eval loss {metrics.eval_loss:.4f}, {speed}; the model is in {args.output}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
