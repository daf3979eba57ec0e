"""The same token ids in a tenth of the time: turns put together from parts, and words that were met before looked up.

Byte-level BPE encodes each piece that its pattern cuts a text into alone, and a text has few different pieces; a chat
template that puts a turn between a prefix and a suffix needs no rendering. Both are properties of the tokenizer and the
template at hand: they are tried when these are loaded, and where they do not hold nothing of this is used. A chat that
the parts cannot be sure of (odd spaces where a turn begins, control characters) is left to the library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

from data.rows import ROLES, Messages

IGNORED = -100
REMEMBERED = 200_000  # pieces; then the memory begins anew
Encoded = tuple[list[int], list[int]]
Slow = Callable[[Sequence[Messages]], list[Encoded]]
Render = Callable[[Messages], tuple[str, Sequence[tuple[int, int]]]]
# GPT-2's pattern, which ByteLevel cuts with, and what it comes to for known characters: two to three times as fast.
_GPT2 = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT2_KNOWN = (
    (r"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII),
    (r"'(?:[stmd]|re|ve|ll)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+", re.UNICODE),
)
# Neither ASCII nor Latin letters nor usual signs: there Python's \w has numbers that are neither \p{L} nor \d.
_BEYOND_LATIN = re.compile(
    "[^\x00-\x1b\x20-\x7f\u00a0-\u00b1\u00b4-\u00b8\u00ba\u00bb\u00bf-\u036f\u2010-\u2027\u2030-\u205e\u20ac]"
)
# Spaces to one library and not to the other, and halves of a pair.
_UNSURE_ASCII = "\x1c\x1d\x1e\x1f"
_UNSURE = re.compile("[\x1c-\x1f\x85\u180e\u200b\ufeff\ud800-\udfff]")
_ODD = (
    "a",
    "Hi!",
    "it's 12,345.67  of\n\n  them\t",
    "naïve – “日本語” 🙂 ½ Ⅷ x²\r\n",
    "can't   \n stop",
    "'S we'LL\u00a0x",
)


Cut = Callable[[str], list[str]]


@dataclass(frozen=True)
class Cuts:
    """How a text is cut: one of ASCII, one of Latin letters and usual signs, and any."""

    ascii: Cut
    latin: Cut
    any: Cut


@dataclass(frozen=True)
class Turn:
    """What stands around a role's text: `head` (ids), `lead` (text that is cut together with it), `tail` (ids)."""

    head: list[int]
    lead: str
    lead_pieces: list[str]
    lead_tokens: int
    tail: list[int]
    marked: int  # tokens of the tail that are labels; −1 when nothing of the turn is


class _Memory(dict[str, list[int]]):
    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __missing__(self, piece: str) -> list[int]:
        if len(self) >= REMEMBERED:
            self.clear()
        ids: list[int] = self.tokenizer.encode(piece, add_special_tokens=False).ids
        self[piece] = ids
        return ids


@dataclass(frozen=True)
class Fast:
    turns: dict[str, Turn]
    controls: list[str]
    control: re.Pattern[str] | None
    memory: _Memory
    cuts: Cuts

    def encode(self, chat: Messages) -> Encoded | None:
        """None where the library has to be asked."""
        ids: list[int] = []
        labels: list[int] = []
        for message in chat:
            turn, text = self.turns.get(message["role"]), message["content"]
            if turn is None or not text or text[0].isspace():
                return None
            if self.control and self.control.search(text):
                for name in self.controls:
                    text = text.replace(name, f"{name[0]} {name[1:]}")
            if text.isascii():
                if any(sign in text for sign in _UNSURE_ASCII):
                    return None
                found = self.cuts.ascii(turn.lead + text)
            elif not _BEYOND_LATIN.search(text):
                found = self.cuts.latin(turn.lead + text)
            elif _UNSURE.search(text):
                return None
            else:
                found = self.cuts.any(turn.lead + text)
            if found[: len(turn.lead_pieces)] != turn.lead_pieces:
                return None
            begun = len(ids) + len(turn.head) + turn.lead_tokens
            ids += turn.head
            ids += chain.from_iterable(map(self.memory.__getitem__, found))
            ids += turn.tail
            if turn.marked < 0:
                labels += [IGNORED] * (len(ids) - len(labels))
            else:
                labels += [IGNORED] * (begun - len(labels))
                labels += ids[begun : len(ids) - len(turn.tail) + turn.marked]
                labels += [IGNORED] * (len(turn.tail) - turn.marked)
        return ids, labels


def fast(tokenizer: Any, controls: list[str], render: Render, slow: Slow) -> Fast | None:
    """None when the tokenizer or the template is not of the kind, or when anything comes out different from `slow`."""
    cuts = _cuts(json.loads(tokenizer.to_str()))
    if cuts is None or not controls:
        return None
    memory = _Memory(tokenizer)
    turns = {role: turn for role in ROLES if (turn := _turn(tokenizer, controls, render, cuts.any, role))}
    whole = Fast(turns, controls, re.compile("|".join(map(re.escape, controls))), memory, cuts)
    probes = [[{"role": role, "content": f"{text} {controls[0]}"}] for role in ROLES for text in _ODD]
    probes += [
        [{"role": role, "content": text} for role in ROLES for text in (one, two)] for one, two in pairwise(_ODD)
    ]
    # A template may treat the last turn, or the first, in a way of its own.
    probes += [probe[at:] + probe[:at] for probe in probes[-3:] for at in range(1, 6)]
    for probe, expected in zip(probes, slow(probes), strict=True):
        ours = whole.encode(probe)
        if ours is None or ours != expected:
            return None
    return whole


def _cuts(tokenizer: dict[str, Any]) -> Cuts | None:
    """None for a kind of tokenizer that is not understood."""
    import regex

    cutter, model = tokenizer.get("pre_tokenizer") or {}, tokenizer["model"]
    special = all(
        added["special"] and not (added["lstrip"] or added["rstrip"] or added["single_word"] or added["normalized"])
        for added in tokenizer["added_tokens"]
    )
    if model.get("type") != "BPE" or model.get("dropout") or tokenizer.get("normalizer") or not special:
        return None
    if cutter.get("type") == "ByteLevel" and cutter.get("use_regex") and not cutter.get("add_prefix_space"):
        known = [re.compile(one, how).findall for one, how in _GPT2_KNOWN]
        return Cuts(known[0], known[1], regex.compile(_GPT2).findall)
    steps = cutter.get("pretokenizers", [])
    if [step["type"] for step in steps] != ["Split", "ByteLevel"]:
        return None
    split, level = steps
    if split["behavior"] != "Isolated" or split["invert"] or level["use_regex"] or level["add_prefix_space"]:
        return None
    found = regex.compile(split["pattern"].get("Regex", r"(?!)"))

    def cut(text: str) -> list[str]:
        return [match[0] for match in found.finditer(text)]

    return Cuts(cut, cut, cut)


def _turn(tokenizer: Any, controls: list[str], render: Render, pieces: Cut, role: str) -> Turn | None:
    """The parts around one turn's text; None where they do not begin and end with control tokens."""
    text, spans = render([{"role": role, "content": "\ue000"}])
    before, found, after = text.partition("\ue000")
    lead_at = max((before.rfind(name) + len(name) for name in controls if name in before), default=0)
    if not found or not before.startswith(tuple(controls)) or not after.startswith(tuple(controls)):
        return None

    def ids(part: str) -> list[int]:
        return list(tokenizer.encode(part, add_special_tokens=False).ids) if part else []

    lead, marked = before[lead_at:], -1
    if spans:
        (start, end), *others = spans
        if others or start != len(before):
            return None
        marked = len(ids(after[: end - len(before) - 1]))
    cut = pieces(lead)
    return Turn(ids(before[:lead_at]), lead, cut, len(ids(lead)), ids(after), marked)
