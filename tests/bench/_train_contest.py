"""One contestant of the training benchmark, in a process of its own: `python -m tests.bench._train_contest NAME`.

It loads, says "ready", and for each line on its input does one optimizer step on the next few chats and answers with a
line of JSON. All have the same weights, token ids, labels, optimizer, clipping and chats a step; only the adapters'
start is random in each. What a default truncates does not count, and neither does padding.
"""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache" / "smollm2-135m-instruct"
CHATS, STEPS = 2, 3  # chats a step, steps
MEAN, SIGMA, LONGEST = 1374, 0.5, 4096  # tokens of a chat: ultrachat's mean, a log-normal spread
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NAMES = ("ours", "ours whole", "trl tuned", "trl adapters", "trl default", "documents")
Example = dict[str, list[int]]


def chats(count: int = CHATS * STEPS) -> list[Example]:
    """Conversations of several turns, mostly answers, of ultrachat-like length; the same ones in every process."""
    from transformers import AutoTokenizer

    from training.chat_data import encode_chat
    from training.chat_template import install_template

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    install_template(tokenizer, "chatml")
    lines = (ROOT / "data" / "tickets.jsonl").read_text().splitlines()[:400]
    texts = [message["content"] for line in lines for message in json.loads(line)["messages"][1:]]
    rng = random.Random(7)
    made: list[Example] = []
    while len(made) < count:
        wanted = min(LONGEST, int(rng.lognormvariate(0, SIGMA) * MEAN / 1.133))  # 1.133: the mean of that spread
        talk: list[dict[str, str]] = []
        while len(encode_chat(talk, tokenizer)["input_ids"]) < wanted if talk else True:
            talk += [{"role": "user", "content": " ".join(rng.sample(texts, 1))}]
            talk += [{"role": "assistant", "content": " ".join(rng.sample(texts, 4))}]
        made.append(encode_chat(talk, tokenizer))
    return made


def trainer(name: str, examples: list[Example], folder: str) -> Any:
    """The contestant's trainer, not begun."""
    return ours(name, examples, folder) if name.startswith("ours") else trl(name, examples, folder)


def recipe(name: str = "ours") -> Any:
    """The demo's, for chats this long: one at a time, for on a CPU a thousand tokens keep to its caches."""
    from training.recipe import load_recipe

    changes = ["data.max_length=4096", "run.batch_size=1", f"run.accumulation={CHATS}", "run.max_steps=1"]
    changes += ["optimizer.warmup_share=0", "optimizer.schedule=constant", "optimizer.learning_rate=0.0001"]
    changes += ["run.log_every=1", "data.sampling=random", "base_model.attention=varlen"]
    chosen = load_recipe(ROOT / "training" / "recipes" / "cpu_demo.yaml", changes)
    return chosen if name == "ours" else chosen.model_copy(update={"lora": None})


def ours(name: str, examples: list[Example], folder: str) -> Any:
    from training import model as models
    from training.metrics import Progress, Tracker
    from training.rows import Rows
    from training.step import keep_freed_memory
    from training.trainer import ChatTrainer, arguments

    keep_freed_memory()
    chosen = recipe(name)
    tokenizer, _ = models.load_tokenizer(chosen, str(MODEL))
    model = models.load_model(chosen, str(MODEL))
    if chosen.lora:
        model = models.add_lora(model, chosen.lora)
    rows = Rows(examples, examples[:1], {"train": len(examples)}, {}, LONGEST)
    return ChatTrainer(model, tokenizer, rows, chosen, arguments(chosen, folder, False), Progress(Tracker({})), "bench")


def trl(name: str, examples: list[Example], folder: str) -> Any:
    """TRL as its own script sets it up, as its options allow best, or as the documents' script asks for."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")
    options: dict[str, Any] = {"per_device_train_batch_size": CHATS}
    dtype, adapters = torch.float32, lora if name == "trl adapters" else None
    if name == "trl tuned":  # one chat at a time: nothing is padded, and nothing of flash attention is needed
        options = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": CHATS}
        options |= {"gradient_checkpointing": False, "max_length": LONGEST, "bf16": False}
        dtype = torch.bfloat16
    elif name == "documents":  # all weights, in bf16, checkpointed, rows of 2,048
        options |= {"max_length": 2048, "packing": True}
        dtype = torch.bfloat16
    config = SFTConfig(
        output_dir=folder, use_cpu=True, max_steps=1, optim="adamw_torch", learning_rate=1e-4, max_grad_norm=1.0,
        lr_scheduler_type="constant", logging_steps=1, report_to=[], save_strategy="no", disable_tqdm=True,
        include_num_input_tokens_seen="no", dataset_kwargs={"skip_prepare_dataset": True}, **options,
    )  # fmt: skip
    cut = [{key: values[: config.max_length] for key, values in example.items()} for example in examples]
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype)
    if name == "trl tuned":
        model, adapters = get_peft_model(model, lora, autocast_adapter_dtype=False), None
    return SFTTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(cut), peft_config=adapters,
        processing_class=AutoTokenizer.from_pretrained(MODEL),
    )  # fmt: skip


def reference(examples: list[Example]) -> tuple[float, int]:
    """The loss of each chat alone in fp32, summed, and the number of its labels."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    total, labels = 0.0, 0
    with torch.no_grad():
        for example in examples:
            ids, targets = (torch.tensor([example[key]]) for key in ("input_ids", "labels"))
            count = int((targets[:, 1:] >= 0).sum())
            total += model(input_ids=ids, labels=targets, use_cache=False).loss.item() * count
            labels += count
    return total, labels


def main(name: str) -> None:
    import torch

    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.manual_seed(1)
    examples = chats()
    short = [{key: values[:200] for key, values in example.items()} for example in examples[:CHATS]]
    answers = sys.stdout
    sys.stdout = sys.stderr
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(name, examples, folder)
        step(made, short)  # pays for kernels and memory
        print("ready", file=answers, flush=True)
        for number, _ in enumerate(sys.stdin):
            done = step(made, examples[number * CHATS : (number + 1) * CHATS])
            print(json.dumps(done), file=answers, flush=True)


def step(made: Any, batch: list[Example]) -> dict[str, float]:
    """One optimizer step on these chats: tokens that were trained, seconds by the clock and of the processor, loss."""
    from datasets import Dataset

    longest = made.args.max_length
    rows = Dataset.from_list([{key: values[:longest] for key, values in one.items()} for one in batch])
    if made.args.packing:
        from trl import pack_dataset

        rows = pack_dataset(rows, seq_length=longest, strategy=made.args.packing_strategy)
        made._train_batch_size = made.args.per_device_train_batch_size = len(rows)
    made.train_dataset = rows
    started, spent = time.perf_counter(), time.process_time()
    made.train()
    seconds, processor = time.perf_counter() - started, time.process_time() - spent
    tokens = sum(min(len(example["input_ids"]), longest) for example in batch)
    loss = next(entry["loss"] for entry in reversed(made.state.log_history) if "loss" in entry)
    return {"tokens": tokens, "seconds": seconds, "processor": processor, "loss": float(loss)}


if __name__ == "__main__":
    main(sys.argv[1])
