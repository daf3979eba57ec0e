"""Tiny random models and a byte-level tokenizer, made here: no download, and every text can be encoded."""

from typing import Any

CONTROL = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def make_tokenizer(rstrip: bool = False, template: str = TEMPLATE) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {c: i for i, c in enumerate(alphabet)} | {"he": 256, "Ġt": 257}
    core = Tokenizer(models.BPE(vocab=words, merges=[("h", "e"), ("Ġ", "t")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True, rstrip=rstrip) for t in CONTROL])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = template
    return tokenizer


def make_model(kind: str, seed: int = 0, **changes: Any) -> Any:
    """A random fp32 model; weights large enough that greedy answers depend on the whole prompt."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

    torch.manual_seed(seed)
    size: dict[str, Any] = {
        "vocab_size": 263, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.3, "eos_token_id": [258, 262],
        "bos_token_id": None, "pad_token_id": 262,
    }  # fmt: skip
    size |= changes
    model = LlamaForCausalLM(LlamaConfig(**size)) if kind == "llama" else Phi3ForCausalLM(Phi3Config(**size))
    return model.eval()
