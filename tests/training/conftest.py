"""A tiny random Phi-3 with a tokenizer of its own, so that the code for the A100 runs here in seconds."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

PHI3_TOKENS = ["<|endoftext|>", "<|assistant|>", "<|end|>", "<|system|>", "<|user|>", "<unk>"]
CHATML_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"]
Chat = list[dict[str, str]]


def chat(number: int) -> Chat:
    return [
        {"role": "system", "content": "Answer with JSON."},
        {"role": "user", "content": f"Lamp {number} is broken, order AB-{number:03d}."},
        {"role": "assistant", "content": json.dumps({"category": "defect", "order_id": f"AB-{number:03d}"})},
    ]


def make_tokenizer(special: list[str]) -> Any:
    """A byte-level BPE of a few hundred pieces, learned from the tests' own chats."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator((m["content"] for n in range(50) for m in chat(n)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=special[0], pad_token=special[0], unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def phi3_tokenizer() -> Any:
    return make_tokenizer(PHI3_TOKENS)


@pytest.fixture(scope="session")
def chatml_tokenizer() -> Any:
    return make_tokenizer(CHATML_TOKENS)


@pytest.fixture(scope="session")
def tiny_phi3(tmp_path_factory: pytest.TempPathFactory, phi3_tokenizer: Any) -> Path:
    """A saved Phi3ForCausalLM of 60 thousand random weights (fused qkv_proj and gate_up_proj, like the real one)."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "phi3"
    config = Phi3Config(
        vocab_size=len(phi3_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = Phi3ForCausalLM(config)
    model.generation_config.eos_token_id = [0, 1]
    model.save_pretrained(folder)
    phi3_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def recipe_content() -> dict[str, Any]:
    """A sound recipe for the tiny model; tests change a copy."""
    return {
        "name": "tiny",
        "base_model": {
            "source": "tiny",
            "revision": None,
            "chat_template": "phi3",
            "dtype": "float32",
            "attention": "sdpa",
            "quantization": None,
            "keep_eos_token_ids": [2],
        },
        "data": {
            "max_length": 256,
            "over_length": "error",
            "packing": False,
            "sampling": "random",
            "max_validation_rows": 4,
        },
        "lora": {
            "rank": 8,
            "alpha": 16,
            "dropout": 0.0,
            "targets": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
            "first_layer": 0,
            "adapter_dtype": "float32",
        },
        "optimizer": {
            "name": "adamw_torch",
            "learning_rate": 0.01,
            "schedule": "cosine",
            "warmup_share": 0.1,
            "weight_decay": 0.0,
            "beta2": 0.999,
            "max_grad_norm": 1.0,
        },
        "run": {
            "seed": 1,
            "epochs": None,
            "max_steps": 12,
            "batch_size": 4,
            "accumulation": 1,
            "gradient_checkpointing": False,
            "log_every": 1,
            "eval_every": None,
            "checkpoint_every": None,
            "keep_best": False,
            "patience": None,
        },
        "scale": {"device": "cpu", "instances": 1, "processes_per_instance": 1, "sharding": "none"},
    }


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def to(content: dict[str, Any]) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return to


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, numbers in {"train": range(64), "validation": range(100, 108)}.items():
        lines = [json.dumps({"id": str(n), "messages": chat(n)}) + "\n" for n in numbers]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder
