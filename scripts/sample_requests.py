"""Requests made of sample conversations: what smoke tests and the rollout send to the endpoint."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts.endpoint import Answer, Asks
from scripts.errors import InvalidInput


def bodies(path: Path) -> list[dict[str, Any]]:
    """Request bodies from a JSONL of conversations: everything before the gold answer is sent.

    Raises InvalidInput when there is none.
    """
    from data.load import read_jsonl
    from eval.flow import decoding

    rows = [row["messages"][:-1] for row in read_jsonl(path)]
    if not rows:
        raise InvalidInput(f"{path}: no conversations to send.")
    how = decoding()  # as the gate asked
    return [{"messages": messages, **how} for messages in rows]


def send(
    requests: Asks, sample: Sequence[dict[str, Any]], *, deployment: str | None = None, at_once: int = 12
) -> list[Answer]:
    """Send every body, `at_once` in flight, and return the answers in order."""
    return [answer for answer, _ in ask(requests, sample, deployment=deployment, at_once=at_once)]


def ask(
    requests: Asks, sample: Sequence[dict[str, Any]], *, deployment: str | None = None, at_once: int = 12
) -> list[tuple[Answer, str]]:
    """The same, with what was said; "" when that cannot be read."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda body: requests.ask(body, deployment), sample))
