"""Text of a record as Markdown that is nothing but text.

Tickets and answers are written by strangers, and a job's summary is read by people who may approve a release. So what
comes from a record cannot become a link, an image, markup, a heading, another column, or a mention of a person.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

ACTIVE = frozenset("\\`*_~[]<>|$&")
"""Characters that Markdown or HTML reads as markup. As numbers (&#124;) they are only ever shown."""
LONGEST = 400
MOST_ROWS = 30


def masked(words: str, most: int = LONGEST) -> str:
    """One line of `words`, cut at `most` characters, in which nothing has a meaning of its own."""
    visible = "".join(c for c in words if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    line = " ".join(visible.split())
    if len(line) > most:
        line = line[: most - 1] + "…"
    safe = "".join(f"&#{ord(c)};" if c in ACTIVE else c for c in line)
    # A mention and an issue number need their sign right before a letter or figure: a mark of no width parts them.
    safe = re.sub(r"(?<!&)([@#])", lambda sign: f"&#{ord(sign[1])};&#8203;", safe)
    # What has :// or www. in it would become a link.
    return re.sub(r"(?i)(?<=www)\.|:(?=//)", lambda sign: f"&#{ord(sign[0])};", safe)


def code(words: str, most: int = LONGEST) -> str:
    """`words` as they were written, in a fixed-width face."""
    return f"<code>{masked(words, most)}</code>" if words.strip() else ""


def commands(words: str) -> str:
    """A sentence of our own, in which a command stands between backquotes."""
    return re.sub(r"`([^`]+)`|([^`]+|`)", lambda part: code(part[1]) if part[1] else _spaced(part[2]), words)


def _spaced(words: str) -> str:
    return " " * words.startswith(" ") + masked(words) + " " * words.endswith(" ")


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; cells must be masked. A long one is cut, and says so."""
    every = list(rows)
    lines = [_row(headers), _row(["---"] * len(headers)), *map(_row, every[:MOST_ROWS])]
    if len(every) > MOST_ROWS:
        lines += ["", f"{len(every) - MOST_ROWS} more are on the whole page."]
    return [*lines, ""]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell or "–" for cell in cells) + " |"
