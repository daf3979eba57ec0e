"""What a worker does with a piece of a source: read, convert, check each row, and keep a few numbers of it.

This is the whole of the work that grows with the text; everything after it sees only the numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.chunks import Chunk, Unreadable
from data.gate import Gate
from data.languages import language
from data.pieces import Encoded
from data.privacy import masked
from data.rowchecks import ROW_CHECKS, Seen
from data.rows import MADE, Row, compact, content_key, messages_of, prompts
from data.rules import Rules
from data.similarity import PLACES, Array, signature
from data.split import draw
from data.tokens import Encoding

if TYPE_CHECKING:
    from data.tokenfile import TokenFile

EXAMPLES = 5
AT_ONCE = 64  # rows that are encoded together
NAME_BYTES = 48
LANGUAGES = 32  # most different ones a piece may number; the rest are "unknown"


@dataclass(frozen=True)
class Work:
    """What a worker needs beside the piece itself. `parts`: the folder for the converted rows, None to keep none."""

    rules: Rules
    encoding: Encoding
    gate: Gate = field(default_factory=Gate)
    parts: Path | None = None
    tokens: Path | None = None  # the folder for their ids and labels, as Arrow files; needs an exact encoding
    keep_gate: bool = False  # these rows are the held-out ones: hand their prompts back


@dataclass
class Finding:
    count: int = 0
    examples: list[tuple[int, str, str]] = field(default_factory=list)  # row of the piece, its id, what to show

    def add(self, row: int, name: str, shown: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append((row, name, shown))


@dataclass
class Facts:
    """Of a piece, in the order of its rows. A number of 0 means that the row has no such thing."""

    rows: int = 0
    columns: dict[str, Array] = field(default_factory=dict)
    found: dict[str, Finding] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)
    slices: Counter[tuple[str, str]] = field(default_factory=Counter)
    languages: list[str] = field(default_factory=list)  # what the numbers of the column `language` mean, from 1
    gate: Gate | None = None


def number(text: str) -> int:
    """64 bits of a digest, never 0: at a million rows the chance that two texts share one is 3 in a hundred million."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()) or 1


def examine(chunk: Chunk, work: Work, part: str = "") -> Facts:
    """Checks the rows of a piece, and writes them as JSONL to `work.parts / part`."""
    facts = Facts(gate=Gate() if work.keep_gate else None)
    columns: dict[str, list[int]] = {name: [] for name in NUMBERS}
    signatures: list[Array] = []
    names: list[bytes] = []
    controls = work.encoding.controls()
    pattern = re.compile("|".join(map(re.escape, controls))) if controls else None
    tokens = _token_file(work.tokens, part) if work.tokens else None
    output = (work.parts / part).open("w", encoding="utf-8", newline="\n") if work.parts else None
    waiting: list[Row] = []

    def look() -> None:
        rows, encoded = _seen(waiting, work, pattern)
        if tokens:
            tokens.write(encoded)
        for row, seen in zip(waiting, rows, strict=True):
            name = masked(row["id"]) if isinstance(row.get("id"), str) else "no id"
            for code, finder in ROW_CHECKS.items():
                if work.rules.on(code) and (shown := finder(seen, work.rules)) is not None:
                    facts.found.setdefault(code, Finding()).add(facts.rows, name, shown)
            for key, value in _numbers(seen, facts).items():
                columns[key].append(value)
            signatures.append(_signature(seen))
            names.append(name.encode("utf-8", "replace")[:NAME_BYTES])
            if facts.gate is not None and seen.messages:
                facts.gate.add(row.get("cluster_id"), seen.messages)
            if output:
                output.write(compact(row).encode("utf-8", "replace").decode())
            facts.rows += 1
        waiting.clear()

    try:
        for row in chunk.read():
            if isinstance(row, Unreadable):
                facts.unreadable.append(Unreadable(row.code, chunk.line(row.line), row.why))
                continue
            waiting.append(row)
            if len(waiting) == AT_ONCE:
                look()
        look()
    finally:
        if output:
            output.close()
        if tokens:
            tokens.close()
    facts.columns = {name: np.array(values, NUMBERS[name]) for name, values in columns.items()}
    padded = b"".join(name.ljust(NAME_BYTES) for name in names)
    facts.columns["name"] = np.frombuffer(padded, np.uint8).reshape(-1, NAME_BYTES)
    facts.columns["signature"] = np.stack(signatures) if signatures else np.zeros((0, PLACES), np.uint32)
    return facts


NUMBERS: dict[str, type[np.generic]] = {
    "id": np.uint64,  # 0 for one that was made here
    "content": np.uint64,
    "cluster": np.uint64,
    "asked": np.uint64,
    "draw": np.uint64,
    "tokens": np.uint32,
    "loss_tokens": np.uint32,
    "language": np.uint8,
}


def _token_file(folder: Path, part: str) -> TokenFile:
    from data.tokenfile import TokenFile, part_of  # Arrow, which plain checks do without

    return TokenFile(part_of(folder / part))


def _seen(rows: Sequence[Row], work: Work, controls: re.Pattern[str] | None) -> tuple[list[Seen], list[Encoded]]:
    chats = [messages_of(row) for row in rows]
    texts = ["\n".join(m["content"] for m in chat) if chat else "" for chat in chats]
    whole = [at for at, text in enumerate(texts) if chats[at] and (text.isascii() or _encodable(text))]
    counted, encoded = work.encoding.measured([chats[at] or [] for at in whole])
    lengths = dict(zip(whole, counted, strict=True))
    seen = [
        Seen(
            row,
            chat,
            text,
            *lengths.get(at, (0, 0)),
            controls,
            work.gate.meets(chat, work.rules.near_duplicate) if chat and work.rules.on("leakage") else None,
            isinstance(row.get("cluster_id"), str) and row["cluster_id"] in work.gate.clusters,
        )
        for at, (row, chat, text) in enumerate(zip(rows, chats, texts, strict=True))
    ]
    return seen, encoded


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _numbers(seen: Seen, facts: Facts) -> dict[str, int]:
    row, messages = seen.row, seen.messages
    identity, cluster = row.get("id"), row.get("cluster_id")
    asked = list(prompts(messages)) if messages else []
    spoken = language(seen.text) if messages else None
    if spoken and spoken not in facts.languages and len(facts.languages) < LANGUAGES:
        facts.languages.append(spoken)
    slices = row.get("slices")
    for key, value in slices.items() if isinstance(slices, dict) else ():
        if isinstance(value, str):
            facts.slices[key, value] += 1
    made = isinstance(identity, str) and identity.startswith(MADE)
    return {
        "id": number(identity) if isinstance(identity, str) and not made else 0,
        "content": number(content_key(messages)) if messages else 0,
        "cluster": number(cluster) if isinstance(cluster, str) else 0,
        "asked": number("\x00".join(asked[-1])) if asked and any(asked[-1]) else 0,
        "draw": draw(cluster) if isinstance(cluster, str) else 0,
        "tokens": seen.tokens,
        "loss_tokens": seen.loss_tokens,
        "language": facts.languages.index(spoken) + 1 if spoken in facts.languages else 0,
    }


def _signature(seen: Seen) -> Array:
    """Of what the user says: a system prompt is the same everywhere, and where a task has few answers so are they."""
    said = "\n".join(m["content"] for m in seen.messages or () if m["role"] == "user")
    return signature(said) if said else np.zeros(PLACES, np.uint32)
