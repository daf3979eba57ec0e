"""Node: refuses an answer that must not be given on. The logic is asking/guards.py."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from asking.guards import guarded, guarded_stream
from asking.result import Result
from promptflow.core import tool


@tool
def output_guard(result: dict) -> dict:
    """The same result, or one without the answer."""
    if "pieces" not in result:
        return asdict(guarded(Result(**result)))
    first, more = result["pieces"]
    return result | {"pieces": guarded_stream(_again(first, more))}


def _again(first: str, more: Any) -> Iterator[str | Result]:
    yield first
    yield from more
