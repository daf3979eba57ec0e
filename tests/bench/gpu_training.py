"""Training on one GPU: a Phi-3-mini of random weights, chats of ultrachat-like length, ours against TRL.

NOT YET RUN ON A GPU. Without one it says so and measures nothing. `TINY=1` runs the same code on a CPU with a model of
two layers, to show that it works; those numbers mean nothing and are not kept.

    python -m tests.bench gpu_training
"""

import gc
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench._train_contest import LONGEST, MEAN, SIGMA

TINY = bool(os.environ.get("TINY"))
ROUNDS, CHATS = 3, 4 if TINY else 32  # chats of a step
WANTED = {"ours lora": 25_000, "ours full": 18_000}  # effective tokens/s on an H100
VARIANTS = ("ours lora", "ours full", "trl tuned lora", "trl default lora")
TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]


def run() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_available() and not TINY:
        print("  no GPU here: nothing was measured")
        return []
    with tempfile.TemporaryDirectory() as folder:
        base = random_model(Path(folder) / "base")
        rounds = [{name: measure(name, base, Path(folder), seed) for name in VARIANTS} for seed in range(ROUNDS)]
    if TINY:
        print(f"  the code runs: {sorted(rounds[0])}")
        return []
    middle = {name: statistics.median(each[name]["tokens_per_second"] for each in rounds) for name in VARIANTS}
    rows = [
        row(f"{name}, against what we set ourselves", middle[name], float(wanted)) for name, wanted in WANTED.items()
    ]
    rows += [row(f"ours lora, against {name}", middle["ours lora"], middle[name]) for name in VARIANTS[2:]]
    shares = [each["ours lora"].get("mfu", 0.0) for each in rounds]
    return [*rows, row("utilisation of ours lora (MFU)", statistics.median(shares), 0.45)]


def row(metric: str, ours: float, other: float) -> dict[str, Any]:
    values = {"ours": round(ours, 3), "other": round(other, 3), "other_is": metric.rpartition(", against ")[2]}
    return {"metric": metric, "unit": "tokens/s", **values, "ratio": round(ours / other, 3), "runs": ROUNDS}


def random_model(folder: Path) -> str:
    """Phi-3-mini's shape with random weights: the arithmetic is that of the real one."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Phi3Config(**(small | {"num_key_value_heads": 4} if TINY else {}), sliding_window=2047)
    torch.set_default_dtype(torch.bfloat16)
    model = Phi3ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return str(folder)


def chats(count: int, seed: int) -> list[dict[str, list[int]]]:
    rng = random.Random(seed)
    lengths = [max(32, min(LONGEST, int(rng.lognormvariate(0, SIGMA) * MEAN / 1.133))) for _ in range(count)]
    made = []
    for length in (n // 16 if TINY else n for n in lengths):
        ids = [rng.randrange(5, 32_000) for _ in range(length)]
        made.append({"input_ids": ids, "labels": [-100] * (length // 5) + ids[length // 5 :]})
    return made


def measure(name: str, base: str, folder: Path, seed: int) -> dict[str, float]:
    """One trainer, made anew: a step to warm up and two that count."""
    import torch

    gc.collect()  # of the one before
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    made = make(name, base, folder, chats(3 * CHATS, seed))
    made.args.max_steps, marks = 3, []
    step = made.training_step

    def timed(*arguments: Any, **named: Any) -> Any:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        marks.append((made.state.global_step, time.perf_counter()))
        return step(*arguments, **named)

    made.training_step = timed
    made.train()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = next(at for number, at in marks if number == 1)
    seconds = time.perf_counter() - started
    tokens = sum(min(len(row["input_ids"]), made.args.max_length) for row in made.train_dataset) * 2 / 3
    rates = {"tokens_per_second": tokens / seconds}
    if name.startswith("ours"):
        rates |= {key: value for key, value in made.meter.rates(made.meter.total).items() if key == "mfu"}
    return rates


def make(name: str, base: str, folder: Path, examples: list[dict[str, list[int]]]) -> Any:
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from tests.bench._train_contest import MODEL
    from training import model as models
    from training.metrics import Progress, Tracker
    from training.packing import packed
    from training.recipe import load_recipe
    from training.rows import Rows
    from training.trainer import ChatTrainer, arguments

    tokenizer = AutoTokenizer.from_pretrained(MODEL)  # only for its padding: the token ids are random
    if name.startswith("ours"):
        changes = ["run.eval_every=null", "run.checkpoint_every=null", "run.keep_best=false", "run.patience=null"]
        changes += ["run.log_every=1", *(["scale.device=cpu", "optimizer.name=adamw_torch"] if TINY else [])]
        path = Path("training/recipes") / ("h100_lora.yaml" if name.endswith("lora") else "a100_full.yaml")
        recipe = load_recipe(path, changes)
        rows = packed(examples, recipe.data.max_length)
        model = models.load_model(recipe, base)
        model = models.add_lora(model, recipe.lora) if recipe.lora else model
        settings = arguments(recipe, str(folder / "run"), checkpointing=not recipe.lora)
        settings.gradient_accumulation_steps = max(1, len(rows) // 3 // recipe.run.batch_size)
        rows = rows[: 3 * settings.gradient_accumulation_steps * recipe.run.batch_size]  # three whole steps
        data = Rows(rows, rows[:1], {"train": len(rows)}, {}, LONGEST)
        return ChatTrainer(model, tokenizer, data, recipe, settings, Progress(Tracker({})), "bench")
    tuned = "tuned" in name
    options: dict[str, Any] = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": CHATS // 8 or 1}
    if tuned:
        options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": CHATS // 2, "max_length": LONGEST}
        options |= {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}
    config = SFTConfig(
        output_dir=str(folder / "run"), use_cpu=TINY, max_steps=3, logging_steps=1, report_to=[], save_strategy="no",
        disable_tqdm=True, dataset_kwargs={"skip_prepare_dataset": True}, **options,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if tuned else torch.float32)
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")
    cut = [{key: ids[: config.max_length] for key, ids in each.items()} for each in examples]
    return SFTTrainer(
        model=get_peft_model(model, lora), args=config, train_dataset=Dataset.from_list(cut), processing_class=tokenizer
    )
