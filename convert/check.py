"""What a converted model must show before it is handed over, and what is only told.

Must: the same token ids for every prompt as the source's tokenizer gives, and finite scores. Told: at how many places of
the source's own greedy answers the converted model would have chosen the same token. Whether its answers are good
enough is for the gate to say, which asks the deployed model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convert.errors import ConvertError
from convert.graph import MODEL

Prompt = list[dict[str, str]]


def read_prompts(path: Path) -> list[Prompt]:
    """The conversations of a JSONL file of chats, without their last answers. Raises ConvertError."""
    prompts: list[Prompt] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                messages = json.loads(line)["messages"]
                last = messages[-1]["role"] == "assistant"
                if not messages[:-1] and last:
                    raise ValueError
                prompts.append(messages[:-1] if last else messages)
    except OSError as error:
        raise ConvertError(f"{path} cannot be read ({error.strerror}); give a JSONL file of chats.") from None
    except (ValueError, KeyError, TypeError, IndexError):
        raise ConvertError(f"{path} line {number} is no chat with messages; check it with `data check`.") from None
    if not prompts:
        raise ConvertError(f"{path} has no chats, so nothing can be compared; give a file that has some.")
    return prompts


def same_tokens(ours: Any, source: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The token ids of all prompts. Raises ConvertError where two tokenizers differ in one."""
    out = []
    for number, prompt in enumerate(prompts, 1):
        mine, theirs = (
            list(t(t.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True), add_special_tokens=False)
                 ["input_ids"]) for t in (ours, source)
        )  # fmt: skip
        if mine != theirs:
            raise ConvertError(f"Prompt {number} becomes other tokens than with the source's tokenizer.")
        out.append(mine)
    return out


@torch.no_grad()
def agreement(model: Any, folder: Path, prompts: Sequence[Sequence[int]], tokens: int = 48) -> tuple[int, int]:
    """(places where the converted model's first choice is the source's, places) along the source's greedy answers.

    Raises ConvertError when a score is no number.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])
    caches = {each.name: each.shape for each in session.get_inputs() if each.name.startswith("past_")}
    same = places = 0
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)[0]
        length, answer = len(prompt), out[len(prompt) :].tolist()
        feed = {
            "ids": out[None, :-1].numpy(), "new": np.array([len(out) - 1], np.int32),
            "last": np.array([len(out) - 2], np.int32), "longest": np.array(len(out) - 1, np.int32),
            "wanted": np.arange(length - 1, len(out) - 1),
            **{name: np.zeros((1, shape[1], len(out) - 1, shape[3]), np.float32) for name, shape in caches.items()},
        }  # fmt: skip
        (scores,) = session.run(["scores"], feed)
        if not np.isfinite(scores).all():
            raise ConvertError("The converted model gives scores that are no numbers; use another recipe.")
        same += int((scores.argmax(-1) == np.array(answer)).sum())
        places += len(answer)
    return same, places
