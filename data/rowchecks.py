"""Checks that need one row at a time: a table of functions. None means sound, a text (which may be empty) what to show.

Adding one means a line here, one in `rules.CODES` and one in each checks*.yaml.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data.privacy import PERSONAL, SECRETS, Found, Kind, find, masked
from data.rows import ROLES, Row
from data.rules import Rules

# The families of control tokens that chat templates are made of, whichever model is trained; a tokenizer adds its own.
_FAMILY = re.compile(r"<\|[a-z_0-9]{1,30}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd\ufffe\uffff]")


@dataclass(frozen=True)
class Seen:
    """A row as the checks see it. `messages` is None when there are none to look at; `text` is all that they say."""

    row: Row
    messages: list[dict[str, str]] | None
    text: str
    tokens: int
    loss_tokens: int
    controls: re.Pattern[str] | None  # of the tokenizer at hand
    held_out: str | None  # how it meets a held-out prompt
    shares_cluster: bool

    @cached_property
    def private(self) -> list[Found]:
        """Both kinds in one go: a password in an address is no e-mail, though it looks like one."""
        return list(find(SECRETS + PERSONAL, self.text))


Finder = Callable[[Seen, Rules], str | None]


def _schema(seen: Seen, _: Rules) -> str | None:
    names = all(isinstance(seen.row.get(key), str) and seen.row[key] for key in ("id", "cluster_id"))
    slices = seen.row.get("slices", {})
    tagged = isinstance(slices, dict) and all(isinstance(v, str) for v in slices.values())
    return None if seen.messages is not None and names and tagged else ""


def _roles(seen: Seen, _: Rules) -> str | None:
    turns = enumerate(seen.messages or ())
    wrong = [m["role"] for at, m in turns if m["role"] not in ROLES or (m["role"] == "system" and at > 0)]
    return masked(wrong[0])[:40] if wrong else None


def _alternation(seen: Seen, _: Rules) -> str | None:
    turns = [m["role"] for m in seen.messages or () if m["role"] != "system"]
    sound = turns[::2].count("user") == len(turns[::2]) and turns[1::2].count("assistant") == len(turns[1::2])
    return None if sound else ""


def _last_turn(seen: Seen, _: Rules) -> str | None:
    return "" if seen.messages and seen.messages[-1]["role"] != "assistant" else None


def _blank(seen: Seen, _: Rules) -> str | None:
    return "" if any(not m["content"].strip() for m in seen.messages or ()) else None


def _utf8(seen: Seen, _: Rules) -> str | None:
    """A line that is not UTF-8 is found by the reader; here, half a character pair, which no file can hold."""
    rest = json.dumps({key: value for key, value in seen.row.items() if key != "messages"}, ensure_ascii=False)
    try:
        (seen.text + rest).encode()
    except UnicodeEncodeError:
        return "half a character pair"
    return None


def _unicode(seen: Seen, _: Rules) -> str | None:
    if found := _INVISIBLE.search(seen.text):
        return f"U+{ord(found[0]):04X}"
    return None if seen.text.isascii() or unicodedata.is_normalized("NFC", seen.text) else "not NFC"


def _control_tokens(seen: Seen, _: Rules) -> str | None:
    found = _FAMILY.search(seen.text) if "<" in seen.text or "[" in seen.text else None
    found = found or (seen.controls.search(seen.text) if seen.controls else None)
    return found[0] if found else None


def _over_length(seen: Seen, rules: Rules) -> str | None:
    return f"{seen.tokens} tokens" if seen.tokens > rules.max_tokens else None


def _no_loss(seen: Seen, _: Rules) -> str | None:
    return "" if seen.messages and seen.loss_tokens == 0 else None


def _leakage(seen: Seen, _: Rules) -> str | None:
    return seen.held_out


def _shared_cluster(seen: Seen, _: Rules) -> str | None:
    return "" if seen.shares_cluster else None


def _private(kinds: tuple[Kind, ...]) -> Finder:
    names = {kind.name for kind in kinds}

    def finder(seen: Seen, _: Rules) -> str | None:
        found = [str(one) for one in seen.private if one.kind in names]
        return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if found[3:] else "") if found else None

    return finder


def _answers(seen: Seen, rules: Rules) -> Iterator[Any]:
    for message in seen.messages or () if rules.answer_keys else ():
        if message["role"] == "assistant":
            try:
                yield json.loads(message["content"])
            except (json.JSONDecodeError, RecursionError):
                yield None


def _answer_json(seen: Seen, rules: Rules) -> str | None:
    return "" if any(not isinstance(answer, dict) for answer in _answers(seen, rules)) else None


def _answer_keys(seen: Seen, rules: Rules) -> str | None:
    wrong = (a for a in _answers(seen, rules) if isinstance(a, dict) and list(a) != rules.answer_keys)
    return "" if any(True for _ in wrong) else None


ROW_CHECKS: dict[str, Finder] = {
    "utf8": _utf8,
    "schema": _schema,
    "roles": _roles,
    "alternation": _alternation,
    "last_turn": _last_turn,
    "blank": _blank,
    "unicode": _unicode,
    "control_tokens": _control_tokens,
    "over_length": _over_length,
    "no_loss": _no_loss,
    "leakage": _leakage,
    "shared_cluster": _shared_cluster,
    "secrets": _private(SECRETS),
    "personal_data": _private(PERSONAL),
    "answer_json": _answer_json,
    "answer_keys": _answer_keys,
}
