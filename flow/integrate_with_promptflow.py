"""Node: the call of the endpoint. The logic is asking/calling.py and asking/streaming.py."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from asking.calling import ask
from asking.result import Result
from asking.streaming import stream
from node_connection import place
from promptflow.connections import CustomConnection
from promptflow.core import tool


@tool
def integrate_with_promptflow(
    messages: list,
    refused: dict | None = None,
    decoding: dict | None = None,
    streaming: bool = False,
    connection: CustomConnection = None,
) -> dict:
    """`refused` is the input guard's result: then nothing is asked. `streaming`: the result has `pieces` to come.

    Without a connection the endpoint is the environment's and Entra signs in. Raises ValueError for a wrong set-up.
    """
    if refused:
        return refused
    if not streaming:
        return asdict(ask(messages, decoding, **place(connection)))
    return begun(stream(messages, decoding, **place(connection)))


def begun(pieces: Iterator[str | Result]) -> dict[str, Any]:
    """What is known of a stream when its first piece is there: that it has begun, or that nothing will come."""
    first = next(pieces)
    if isinstance(first, Result):
        return asdict(first)
    return asdict(Result("", "ok")) | {"status": "streaming", "pieces": (first, pieces)}
