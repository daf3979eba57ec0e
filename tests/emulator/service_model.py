"""A tiny random Phi-3 to stand behind the catalogue: real fine-tuning and real answers, in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPECIAL = ["<|endoftext|>", "<|assistant|>", "<|end|>", "<|system|>", "<|user|>", "<unk>"]


def make(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator((json.dumps(chat(n)) for n in range(50)), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=SPECIAL[0], pad_token=SPECIAL[0], unk_token="<unk>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    )
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
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
    tokenizer.save_pretrained(folder)


def chat(number: int) -> dict[str, Any]:
    said = json.dumps({"category": "defect", "order_id": f"AB-{number:03d}"})
    return {
        "messages": [
            {"role": "system", "content": "Answer with JSON."},
            {"role": "user", "content": f"Lamp {number} is broken, order AB-{number:03d}."},
            {"role": "assistant", "content": said},
        ]
    }


def write(path: Path, numbers: range) -> Path:
    path.write_text("".join(json.dumps(chat(n)) + "\n" for n in numbers), encoding="utf-8")
    return path
