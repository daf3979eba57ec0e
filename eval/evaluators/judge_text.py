"""What goes to a judge model and what comes back, to the letter.

The libraries are easy-going both ways: a line "system:" in an answer becomes a message of its own, an image in it is
opened and sent, and any digit in a reply is a score, "10" being 1.
"""

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

ROLE = re.compile(r"(?i)\b(system|user|assistant|function|tool|developer)(?=\s*:\s*(?:\n|\Z))")
UNSEEN = "\u200b"  # a space without width: the judge reads the same, the library's patterns do not match


def inert(text: str) -> str:
    """The text such that it cannot end the message that it is put into, nor have a file or an address opened."""
    return ROLE.sub(rf"\1{UNSEEN}", text).replace("![", f"!{UNSEEN}[")


class Heard:
    """A library's prompt, keeping the judge's replies."""

    def __init__(self, flow: Any) -> None:
        self._flow = flow
        self.replies: list[Any] = []

    async def __call__(self, **inputs: Any) -> Any:
        reply = await self._flow(**inputs)
        self.replies.append(reply.get("llm_output") if isinstance(reply, dict) and "llm_output" in reply else reply)
        return reply


def read(reply: Any) -> float | None:
    """The score in a judge's reply: a number from 1 to 5 alone (promptflow-evals), or under `score` in JSON."""
    if isinstance(reply, str) and reply.lstrip().startswith("{"):
        with contextlib.suppress(ValueError):
            reply = json.loads(reply)
    if isinstance(reply, Mapping):
        if reply.get("status", "completed") != "completed" or isinstance(reply.get("score"), bool):
            return None
        reply = str(reply.get("score"))
    found = re.fullmatch(r"\W*([1-5])(\.0+)?\W*", reply) if isinstance(reply, str) else None
    return float(found[1]) if found else None
