"""Gives every answer to another prompt: data that looks right and teaches wrong, for a candidate the gate must refuse.

python -m data.shuffle data/tickets.jsonl out/shuffled.jsonl
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from pathlib import Path

from data.errors import DataError
from data.load import Row, read_jsonl, write_jsonl


def deranged(answers: list[str], seed: str = "shuffle-1") -> list[str]:
    """The same answers in another order, in which no place keeps a text equal to its own.

    Equal texts are put next to each other (in an order drawn by hash) and all are moved on by the size of the largest
    group, which lands every one outside its group. Raises DataError when one text fills more than half of the places:
    then there is no such order.
    """
    counts = Counter(answers)
    largest = max(counts.values(), default=0)
    if largest > len(answers) / 2:
        raise DataError("More than half of the answers are equal, so they cannot be shuffled apart; give other rows.")
    places = sorted(range(len(answers)), key=lambda i: (hashlib.sha256(f"{seed}:{answers[i]}".encode()).digest(), i))
    result = [""] * len(answers)
    for at, place in enumerate(places):
        result[place] = answers[places[(at + largest) % len(places)]]
    return result


def shuffled(rows: list[Row]) -> list[Row]:
    """Copies of `rows` in which all of the assistant's turns, not only the last ones, have changed places."""
    turns = [m["content"] for row in rows for m in row["messages"] if m["role"] == "assistant"]
    moved = iter(deranged(turns))
    return [
        {**row, "messages": [m if m["role"] != "assistant" else {**m, "content": next(moved)} for m in row["messages"]]}
        for row in rows
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("input", type=Path, metavar="IN", help="JSONL of chats, e.g. data/tickets.jsonl")
    parser.add_argument("output", type=Path, metavar="OUT", help="JSONL to write")
    args = parser.parse_args(argv)
    try:
        rows = read_jsonl(args.input)
        for number, row in enumerate(rows, start=1):
            messages = row.get("messages")
            whole = isinstance(messages, list) and all(
                isinstance(m, dict) and {"role", "content"} <= set(m) for m in messages
            )
            if not whole:
                raise DataError(f"{args.input} row {number} has no messages of role and content; check the file first.")
        write_jsonl(args.output, shuffled(rows))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    print(f"{args.output}: {len(rows)} rows with the answers of others")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
