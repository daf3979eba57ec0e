"""The model card: what a folder of weights was made from and how good it is, in the folder itself.

It holds nothing that differs between two equal runs, so that equal runs give folders of equal digest. Seconds, speed
and money are in the job's metrics and in `training.json`.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from training.recipe import Recipe
from training.rows import Rows

SCORES = ("eval_loss", "perplexity", "token_accuracy")


def card(recipe: Recipe, rows: Rows, numbers: dict[str, Any], flops: float) -> str:
    """The text of README.md in a model's folder. `numbers` are those of the metrics file."""
    base = recipe.base_model.source
    head = {"base_model": base, "library_name": "transformers", "pipeline_tag": "text-generation"}
    how = f"adapters of rank {recipe.lora.rank}, merged" if recipe.lora else "all weights"
    data = "\n".join(f"| {name} | {rows.chats[name]} | `{digest}` |" for name, digest in rows.digests.items())
    scores = "\n".join(f"| {name} | {numbers[name]:.5f} |" for name in SCORES)
    return f"""---
{yaml.safe_dump(head, sort_keys=False).strip()}
---
# {recipe.name}

Fine-tuned from {base} ({how}) on conversations, with the loss on what the assistant wrote. It expects the
chat template of its tokenizer and ends a turn with one of the `eos_token_id` of its generation config.

| what | value |
| --- | --- |
| base model | {base} (`{numbers["base_model_digest"]}`) |
| optimizer steps | {numbers["steps"]} |
| tokens trained on | {numbers["trained_tokens"]} |
| arithmetic spent | {flops:.3e} FLOPs |

## Data
| split | chats | SHA-256 |
| --- | --- | --- |
{data}

## Scores on the validation split
They served to choose the model, so they are no evidence of how good it is: that is the gate's verdict on other prompts.

| what | value |
| --- | --- |
{scores}

## Recipe
```yaml
{yaml.safe_dump(json.loads(recipe.model_dump_json()), sort_keys=False).strip()}
```
"""
