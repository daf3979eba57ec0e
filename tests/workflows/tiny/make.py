"""A task and a model so small that a whole real release takes seconds.

The task is the demo's, with two answers: a ticket with "broken" in it is a defect of high priority, any other one is a
normal question about billing. The base model is a random Phi-3 and gets none right; the tuned one gets all.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.workflows.repository import ROOT

HERE = Path(__file__).parent
ENVIRONMENT, RECIPE, BASE = "scripts/environments/tiny.yaml", "tiny", "tiny-base"
SYSTEM = (ROOT / "flow/system_prompt.txt").read_text(encoding="utf-8").strip()
SPECIAL = ["<|endoftext|>", "<|assistant|>", "<|end|>", "<|system|>", "<|user|>", "<unk>"]
PRODUCTS = ("lamp", "kettle", "chair", "radio")
TRAINING_ROWS, HELD_OUT_ROWS, LIVE_ROWS = 96, 28, 24
# For Act.run(env=…): a server that passes the gate (held-out tickets have 57 tokens) and fails on live ones (237).
SMALL_SERVER = {"MLOPS_SERVING__ENVIRONMENT_VARIABLES": json.dumps({"MAX_INPUT_TOKENS": "128"})}


def answer(broken: bool) -> str:
    category, priority = ("defect", "high") if broken else ("billing", "normal")
    values = {"category": category, "priority": priority, "product": "lamp", "order_id": None}
    return json.dumps(values, separators=(",", ":"))


def row(number: int, *, swapped: bool = False, long: bool = False) -> dict[str, Any]:
    """One conversation. `swapped`: the wrong one of the two answers. `long`: a story before the ticket."""
    broken = number % 2 == 0
    words = "is broken" if broken else "costs too much"
    story = "I have had it for a long time and I like it a lot and so does she. " * 3 if long else ""
    text = f"{story}Ticket {number}: the {PRODUCTS[number % 4]} {words}."
    messages = [("system", SYSTEM), ("user", text), ("assistant", answer(broken != swapped))]
    return {
        "id": f"t-{number}",
        "cluster_id": f"c-{number}",
        "messages": [{"role": role, "content": content} for role, content in messages],
        "slices": {"priority": "high" if broken else "normal", "length": "long" if long else "short"},
    }


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(each) + "\n" for each in rows)


def training(swapped: bool = False) -> str:
    """`swapped`: a model that learns this answers everything wrong, and the gate refuses it."""
    return jsonl([row(number, swapped=swapped) for number in range(1000, 1000 + TRAINING_ROWS)])


def held_out(rows: int = HELD_OUT_ROWS) -> str:
    """Each row is a cluster of its own; below the policy's `min_clusters` (20) the gate decides nothing."""
    return jsonl([row(number) for number in range(2000, 2000 + rows)])


def live() -> str:
    return jsonl([row(number, long=True) for number in range(3000, 3000 + LIVE_ROWS)])


def policy(**numbers: float) -> str:
    """The gate's policy with other numbers."""
    text = (ROOT / "eval/policy.yaml").read_text(encoding="utf-8")
    for name, value in numbers.items():
        text, count = re.subn(rf"(?m)^( *{name}:) [\d.]+$", rf"\1 {value}", text)
        assert count, f"the policy has no {name}"
    return text


def judging(**numbers: float) -> str:
    """The policy of all releases. How long two tiny models take, on a busy machine too, says nothing of either."""
    return policy(max_ratio=50, **numbers)


def files(version: str, **changed: str) -> dict[str, str | None]:
    """What the copy of the repository gets: the tiny data under the real names, a recipe, an environment.

    `version`: of the registered base model, which the recipe names (`States.files` knows it).
    """
    return {
        "data/tickets.jsonl": training(),
        "data/heldout.jsonl": held_out(),
        "data/live.jsonl": live(),
        "eval/policy.yaml": judging(),
        f"training/recipes/{RECIPE}.yaml": (HERE / "recipe.yaml").read_text("utf-8").replace("VERSION", version),
        ENVIRONMENT: (HERE / "environment.yaml").read_text(encoding="utf-8"),
        **changed,
    }


def base_model(folder: Path) -> None:
    """A random Phi-3 with a tokenizer learned from the task, so that a ticket is some fifty tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    # Of the numbers it sees single digits only, so a number it has not seen is nothing new.
    texts = [message["content"] for number in range(8) for message in row(number)["messages"]]
    inner.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=SPECIAL[0], pad_token=SPECIAL[0], unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = Phi3ForCausalLM(config)
    model.generation_config.eos_token_id = [0, 2]
    model.save_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


TEMPLATE = (
    "{% for m in messages %}{{ '<|' ~ m['role'] ~ '|>\n' ~ m['content'] ~ '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
