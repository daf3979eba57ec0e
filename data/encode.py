"""Chats to token ids and labels: those that `tokenizer.apply_chat_template` gives, with less around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.pieces import IGNORED, Encoded, Fast, fast
from data.rows import Messages

ASKED_AGAIN = 64  # one chat in so many is encoded by the library too


class EncodingDiffers(AssertionError):
    """Ours and the library's ids differ: a fault of ours that must not pass for data."""


@dataclass
class Encoder:
    """A tokenizer (of the library `tokenizers`) with a chat template whose control tokens are filled in."""

    tokenizer: Any
    controls: list[str]
    template: str
    _fast: Fast | None = None
    _count: int = 0

    def __post_init__(self) -> None:
        self._fast = fast(self.tokenizer, self.controls, self._render, self.by_the_library)

    @property
    def is_fast(self) -> bool:
        return self._fast is not None

    def encode(self, chats: Sequence[Messages]) -> list[Encoded]:
        """(`input_ids`, `labels`) of each chat; labels are −100 outside what the template marks."""
        if self._fast is None:
            return self.by_the_library(chats)
        found = [self._fast.encode(chat) for chat in chats]
        done = iter(self.by_the_library([chat for chat, one in zip(chats, found, strict=True) if one is None]))
        encoded = [next(done) if one is None else one for one in found]
        self._count += len(chats)
        if chats and self._count >= ASKED_AGAIN:
            self._count = 0
            if self.by_the_library(chats[:1]) != encoded[:1]:
                raise EncodingDiffers("data.pieces encodes a chat in another way than the tokenizers library")
        return encoded

    def by_the_library(self, chats: Sequence[Messages]) -> list[Encoded]:
        if not chats:
            return []
        texts, spans = zip(*map(self._render, chats), strict=True)
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [_labelled(one, marked) for one, marked in zip(encoded, spans, strict=True)]

    def _render(self, chat: Messages) -> tuple[str, Sequence[tuple[int, int]]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        texts, spans = render_jinja_template(
            [list(chat)], chat_template=self.template, return_assistant_tokens_mask=True
        )
        return texts[0], spans[0]


def _labelled(encoded: Any, spans: Sequence[tuple[int, int]]) -> Encoded:
    """A token is a label when it holds a character of what the assistant wrote, its end-of-turn token included."""
    ids = list(encoded.ids)
    labels = [IGNORED] * len(ids)
    for start, end in spans:
        first, last = encoded.char_to_token(start), encoded.char_to_token(end - 1)
        if first is None:
            break
        stop = last + 1 if last else len(ids)
        labels[first:stop] = ids[first:stop]
    return ids, labels
