"""The scoring script one writes first: transformers' `generate` on each request as it comes. What serving/ is measured
against. A list of conversations in one request becomes one left-padded batch, as batch jobs do it."""

import json
import os
from typing import Any

state: dict[str, Any] = {}


def init() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = os.environ["AZUREML_MODEL_DIR"]
    state["tokenizer"] = AutoTokenizer.from_pretrained(folder, padding_side="left")
    state["model"] = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="sdpa"
    ).eval()


def run(body: str) -> Any:
    import torch

    tokenizer, model, asked = state["tokenizer"], state["model"], json.loads(body)
    talks = asked["messages"] if isinstance(asked["messages"][0], list) else [asked["messages"]]
    texts = tokenizer.apply_chat_template(talks, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=asked["max_tokens"], do_sample=False)
    answers = out[:, inputs["input_ids"].shape[1] :]
    tokens = sum(int((a != tokenizer.pad_token_id).sum()) for a in answers)
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    return {"choices": [{"message": {"content": t}} for t in texts], "usage": {"completion_tokens": tokens}}
