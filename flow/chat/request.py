"""What the page may ask of its server, checked here: a mistake is one sentence and never reaches the endpoint."""

import json
import re
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant")
MAX_MESSAGES = 200
MAX_TOKENS = 4096  # of an answer; what a deployment allows it says itself
DEPLOYMENT = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}", re.ASCII)  # as Azure ML names them
IDENTITY = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


class Wrong(ValueError):
    """The request cannot be used; str() is one sentence for the page."""


@dataclass(frozen=True)
class Ask:
    """`deployment` is "" where the endpoint's traffic decides."""

    messages: list[dict[str, str]]
    deployment: str
    decoding: dict[str, Any]


def parse_ask(body: bytes) -> Ask:
    """The conversation in a body. Raises Wrong."""
    data = _object(body, {"messages", "deployment", "max_tokens"})
    messages, most = data.get("messages"), data.get("max_tokens", 128)
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_MESSAGES:
        raise Wrong(f"The conversation must have 1 to {MAX_MESSAGES} messages.")
    checked = [_message(message) for message in messages]
    if checked[-1]["role"] != "user" or not checked[-1]["content"].strip():
        raise Wrong("The last message must be yours, and not empty.")
    if type(most) is not int or not 1 <= most <= MAX_TOKENS:
        raise Wrong(f"The longest answer must be a whole number of tokens from 1 to {MAX_TOKENS}.")
    return Ask(checked, _deployment(data), {"temperature": 0, "max_tokens": most})


def parse_feedback(body: bytes) -> tuple[str, str, str]:
    """(answer's id, rating, deployment that gave it) of an opinion. Raises Wrong."""
    data = _object(body, {"id", "rating", "deployment"})
    identity, rating = data.get("id"), data.get("rating")
    if not isinstance(identity, str) or not IDENTITY.fullmatch(identity) or rating not in ("up", "down"):
        raise Wrong('An opinion has the id of an answer and a rating, "up" or "down".')
    return identity, rating, _deployment(data)


def _object(body: bytes, known: set[str]) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise Wrong("The request is not JSON.") from None
    if not isinstance(data, dict) or data.keys() - known:
        raise Wrong(f"The request must be an object with {', '.join(sorted(known))}.")
    return data


def _deployment(data: dict[str, Any]) -> str:
    name = data.get("deployment", "")
    if not isinstance(name, str) or (name and not DEPLOYMENT.fullmatch(name)):
        raise Wrong("That is not a deployment's name.")
    return name


def _message(message: Any) -> dict[str, str]:
    role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
    if role not in ROLES or not isinstance(content, str) or message.keys() - {"role", "content"}:
        raise Wrong("A message must have a role (system, user, assistant) and a text.")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise Wrong("A message holds half a character, which is not text.") from None
    return {"role": role, "content": content}
