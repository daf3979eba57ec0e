"""From a conversation to token ids with the tokenizer's own chat template, and back to text.

Training tokenizes the rendered template as a whole, so serving does too. Only when a message itself contains the
text of a control token (`<|end|>`) is it taken apart, so that what a user wrote can never end or open a turn.
"""

import re
import threading
from collections.abc import Sequence
from typing import Any


class PromptError(ValueError):
    """The conversation cannot become a prompt; str() says why in one sentence."""


class Prompts:
    """Safe to call from many threads (a fast tokenizer's switches are not, hence the lock)."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        if not tokenizer.chat_template:
            raise PromptError("the model's tokenizer has no chat template; add chat_template.jinja to its folder")
        # Asked directly for the usual prompt: with cold caches, as between requests, its wrapper takes 0.3 ms.
        self.fast = tokenizer.backend_tokenizer
        self.fast.no_truncation()
        self.fast.no_padding()
        self.control = {t.content: (i, t) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
        # Longest first, as the tokenizer matches them.
        names = sorted(map(re.escape, self.control), key=len, reverse=True)
        self.pattern = re.compile("|".join(names) or r"(?!)")
        self.lock = threading.Lock()

    def encode(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of the conversation up to and with the opening of the assistant's turn. Raises PromptError."""
        text = self._render(messages)
        with self.lock:
            if not any(self.pattern.search(m["content"]) for m in messages):
                self.fast.encode_special_tokens = False  # `_plain` leaves it on
                ids: list[int] = self.fast.encode(text, add_special_tokens=False).ids
                return ids
            return self._encode_apart(text, self._spans(text, messages))

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _render(self, messages: Sequence[dict[str, str]]) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise PromptError(f"The model's chat template refuses this conversation: {error}") from None
        return text

    def _spans(self, text: str, messages: Sequence[dict[str, str]]) -> list[tuple[int, int]]:
        """Where the messages' contents lie in the rendered text, found by rendering once with place-holders."""
        marks = [f"\ue000{i}\ue001" for i in range(len(messages))]
        frame = self._render([{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)])
        for contents in ([m["content"] for m in messages], [m["content"].strip() for m in messages]):
            spans, built, at = [], "", 0
            for mark, content in zip(marks, contents, strict=True):
                found = frame.find(mark, at)
                if found < 0:
                    break
                built += frame[at:found]
                spans.append((len(built), len(built) + len(content)))
                built, at = built + content, found + len(mark)
            if built + frame[at:] == text and len(spans) == len(messages):
                return spans
        raise PromptError("A message contains a control token, and this model's template changes messages; remove it.")

    def _encode_apart(self, text: str, spans: list[tuple[int, int]]) -> list[int]:
        ids: list[int] = []
        at, swallow = 0, False
        for match in self.pattern.finditer(text):
            if any(start < match.end() and match.start() < end for start, end in spans):
                continue
            token_id, token = self.control[match.group()]
            ids += self._plain(text[at : match.start()], swallow, token.lstrip)
            ids.append(token_id)
            at, swallow = match.end(), token.rstrip
        return ids + self._plain(text[at:], swallow, False)

    def _plain(self, piece: str, left: bool, right: bool) -> list[int]:
        """A stretch between control tokens; some tokens (Phi-3's) swallow the white space beside them."""
        piece = piece.lstrip() if left else piece
        piece = piece.rstrip() if right else piece
        if not piece:
            return []
        ids: list[int] = self.tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids
