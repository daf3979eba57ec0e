"""One way of preparing the same conversations, in a process of its own, timed from its first call to its last.

    python -m tests.bench._data_side ours|trl|trl-processes|prepare FILE MODEL

Prints seconds, peak memory, and a digest of all ids and labels in order, by which the ways are shown to be equal.
"""

import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parents[2] / "training/templates/chatml.jinja"
Answer = dict[str, Any]


def ours(path: Path, model: Path) -> Answer:
    """Parse, check (near duplicates too), render, encode, and write ids and labels."""
    from data.checks import grouped, judged
    from data.chunks import Shape, of_file
    from data.corpus import Corpus, examined
    from data.examine import Work
    from data.rules import CHATS, load_rules
    from data.spill import spill
    from data.tokenfile import read
    from data.tokens import Encoding

    with tempfile.TemporaryDirectory() as folder, spill(Path(folder)) as columns:
        started, used = time.monotonic(), cpu_seconds()
        work = Work(load_rules(CHATS), Encoding(model, TEMPLATE), tokens=Path(folder))
        done = examined([Corpus(path.name, of_file(path, Shape("messages")))], work, columns)
        checks = judged(done, work.rules, grouped(done, work.rules))
        seconds, cpu = time.monotonic() - started, cpu_seconds() - used
        assert not any(check.count for check in checks if check.severity == "error"), checks
        parts = sorted(Path(folder).glob("*.arrow"))
        return {
            "seconds": seconds,
            "cpu": cpu,
            "digest": digest(row for part in parts for row in read(part).to_batches()),
        }


def prepare(path: Path, model: Path) -> Answer:
    """From the file to the three splits with their record."""
    from data.prepare import prepare as all_of_it
    from data.rules import CHATS, load_rules

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        started = time.monotonic()
        rules = load_rules(CHATS)
        made = all_of_it(path, None, Path(folder) / "out", "chats", rules=rules, tokenizer=model, template=TEMPLATE)
        seconds = time.monotonic() - started
    return {"seconds": seconds, "digest": made.digest, "tokens": sum(file.tokens for file in made.files.values())}


def trl(path: Path, model: Path, processes: int | None = None) -> Answer:
    """What SFTTrainer does with a data set before it trains: `_prepare_dataset`, of rows that are loaded already."""
    import datasets
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from training.chat_template import install_template

    tokenizer = AutoTokenizer.from_pretrained(model)
    install_template(tokenizer, "chatml")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    took = []

    class Timed(SFTTrainer):
        def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
            started, used = time.monotonic(), cpu_seconds()
            try:
                return super()._prepare_dataset(*args, **kwargs)
            finally:
                took.append((time.monotonic() - started, cpu_seconds() - used))

    with tempfile.TemporaryDirectory() as folder:
        rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=folder)
        rows = rows.remove_columns([name for name in rows.column_names if name != "messages"])
        args = SFTConfig(
            output_dir=folder,
            assistant_only_loss=True,
            max_length=None,
            dataset_num_proc=processes,
            report_to=[],
            use_cpu=True,
            bf16=False,
        )
        trainer = Timed(network, args=args, train_dataset=rows, processing_class=tokenizer)
        table = trainer.train_dataset.with_format("arrow")[:]
        seconds, cpu = (sum(each) for each in zip(*took, strict=True))
        return {"seconds": seconds, "cpu": cpu, "digest": digest(table.select(["input_ids", "labels"]).to_batches())}


def cpu_seconds() -> float:
    """Of this process and of those it has waited for: what a crowded machine does not change."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


def digest(batches: Iterable[Any]) -> str:
    total = hashlib.sha256()
    for batch in batches:
        for row in batch.to_pylist():
            total.update(json.dumps([row["input_ids"], row["labels"]]).encode())
    return total.hexdigest()


def main() -> None:
    from data.pool import cores

    how, path, model = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    ways = {
        "ours": ours,
        "prepare": prepare,
        "trl": trl,
        "trl-processes": lambda path, model: trl(path, model, cores()),
    }
    answer = ways[how](path, model)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    each = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # the largest of them
    answer["mb"] = (own + cores() * each) / 1e3 * 1.024
    print(json.dumps(answer))


if __name__ == "__main__":
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    main()
