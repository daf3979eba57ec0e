"""Node: the flow's outputs; asks once more for an answer that is not of the schema. The logic is asking/repair.py."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from asking.calling import Message, ask
from asking.guards import guarded
from asking.repair import check_schema, repaired
from asking.result import Result
from node_connection import place
from promptflow.connections import CustomConnection
from promptflow.core import tool


@tool
def repair(
    messages: list,
    result: dict,
    answer_schema: dict | None = None,
    decoding: dict | None = None,
    connection: CustomConnection = None,
) -> dict:
    """Raises ValueError for a schema that is none. A stream is not repaired: it was given out."""
    check_schema(answer_schema or {})
    if "pieces" in result:
        return {name: value for name, value in result.items() if name != "pieces"} | {
            "answer": _texts(result["pieces"])
        }

    def asked(again: Sequence[Message]) -> Result:
        return guarded(ask(again, decoding, **place(connection)))

    return asdict(repaired(messages, Result(**result), answer_schema or {}, asked))


def _texts(pieces: Iterator[Any]) -> Iterator[str]:
    """The texts alone, as prompt flow streams them. Raises RuntimeError where the answer broke off: the reply then ends
    without its end, which no client takes for the whole."""
    for piece in pieces:
        if isinstance(piece, str):
            yield piece
        elif piece.status != "ok":
            raise RuntimeError(f"{piece.status}: {piece.detail}")
