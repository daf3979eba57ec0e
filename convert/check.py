"""What a converted model must show before it is handed over, and what is only told.

Must: the same token ids for every prompt as the source's tokenizer gives, and finite scores. Told: at how many of the
last places of some chats the converted model would have chosen the token that the source would. Whether its answers are
good enough is for the gate to say, which asks the deployed model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convert.errors import ConvertError
from convert.graph import MODEL

Chat = list[dict[str, str]]
PLACES = 64  # at the end of a chat: a short answer and some of what was asked


def read_chats(path: Path) -> list[Chat]:
    """The conversations of a JSONL file of chats. Raises ConvertError."""
    chats: list[Chat] = []
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                messages = json.loads(line)["messages"]
                if not asked(messages):
                    raise ValueError
                chats.append(messages)
    except OSError as error:
        raise ConvertError(f"{path} cannot be read ({error.strerror}); give a JSONL file of chats.") from None
    except (ValueError, KeyError, TypeError, IndexError):
        raise ConvertError(f"{path} line {number} is no chat with messages; check it with `data check`.") from None
    if not chats:
        raise ConvertError(f"{path} has no chats, so nothing can be compared; give a file that has some.")
    return chats


def asked(chat: Chat) -> Chat:
    """The chat without its last answer."""
    return chat[:-1] if chat[-1]["role"] == "assistant" else chat


def same_tokens(ours: Any, source: Any, chats: Sequence[Chat]) -> None:
    """Raises ConvertError where two tokenizers make other ids of a prompt."""
    for number, chat in enumerate(chats, 1):
        if ids(ours, asked(chat), opened=True) != ids(source, asked(chat), opened=True):
            raise ConvertError(f"Prompt {number} becomes other tokens than with the source's tokenizer.")


def ids(tokenizer: Any, chat: Chat, opened: bool) -> list[int]:
    """Token ids of a chat; `opened`: up to the place where the assistant begins."""
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=opened)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@torch.no_grad()
def agreement(model: Any, folder: Path, chats: Sequence[Sequence[int]]) -> tuple[int, int]:
    """(places where the converted model's first choice is the source's, places) at the ends of some chats.

    Raises ConvertError when a score is no number.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it comes in, never again
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # constants that this recipe has no use for are no news
    session = onnxruntime.InferenceSession(folder / MODEL, options, providers=["CPUExecutionProvider"])
    caches = {each.name: each.shape for each in session.get_inputs() if each.name.startswith("past_")}
    same = places = 0
    for tokens in chats:
        length = len(tokens)
        wanted = np.arange(max(0, length - PLACES), length)
        feed = {
            "ids": np.array([tokens]), "new": np.array([length], np.int32), "last": np.array([length - 1], np.int32),
            "longest": np.array(length, np.int32), "wanted": wanted,
            **{name: np.zeros((1, shape[1], length, shape[3]), np.float32) for name, shape in caches.items()},
        }  # fmt: skip
        (scores,) = session.run(["scores"], feed)
        expected = model(torch.tensor([tokens]), logits_to_keep=len(wanted)).logits[0]
        if not (np.isfinite(scores).all() and expected.isfinite().all()):
            raise ConvertError("The source or the converted model gives scores that are no numbers; evaluate neither.")
        same += int((scores.argmax(-1) == expected.argmax(-1).numpy()).sum())
        places += len(wanted)
    return same, places
