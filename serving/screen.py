"""Looks at what users send and what the model answers: harm, and attempts to take the model over (prompt injection).

    screen = Screen.from_environment()        # once, at the start; ValueError says which setting is wrong
    finding = screen.prompt(messages)         # None: nothing was found
    finding = screen.answer(text)             # also of an answer that still grows

CONTENT_FILTER (environment): `local`, the default, knows phrases and needs nothing; `azure` asks Azure AI Content
Safety at CONTENT_SAFETY_ENDPOINT as who we are in Entra (screen_azure.py); `off` looks at nothing. A finding holds no
word of any text. `Undecided` says that nobody could judge: that is never "nothing found", answer 503. The system
message is the deployer's and is not looked at; every other turn is, for a client may make up the model's own.

The same file lies in serving/ and in flow/, which must not import each other; a test holds the two equal.
docs/content-filter.md says what each mode finds and misses.
"""

import base64
import binascii
import codecs
import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from screen_patterns import DELIMITERS, DIGITS, HARM, INJECTION, LOOK_ALIKES, Row

Where = Literal["prompt", "answer"]
MEDIUM = 4  # of Azure's 0 to 7: what is blocked; a phrase of the local screen counts as this
TRUSTED = ("system",)
GAP = r"[\W_]++"


@dataclass(frozen=True)
class Finding:
    """`severity` from 0 to 7 for harm, None for an injection, which has no degrees."""

    kind: Literal["harm", "injection"]
    category: str
    severity: int | None
    where: Where


class Undecided(Exception):
    """Nobody could judge the text: str() says why, without a word of it. `retry_after`: seconds to wait, at least 1."""

    def __init__(self, sentence: str, retry_after: int = 5) -> None:
        super().__init__(sentence)
        self.retry_after = max(1, retry_after)


@dataclass(frozen=True)
class Screen:
    """`sees` says what is not seen. `digest` is of settings and patterns.

    `window`: characters of a growing answer to hold back, since they may be the first half of what would be found;
    asking `answer` once for each so many new characters is enough.
    """

    mode: Literal["local", "azure", "off"]
    judge: Callable[[str, Where], Finding | None]
    sees: str
    digest: str
    window: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Screen":
        """Raises ValueError, one sentence, for a setting that is wrong."""
        mode = environ.get("CONTENT_FILTER", "") or "local"
        if mode == "off":
            return cls("off", lambda _text, _where: None, "The content filter is off: nothing is looked at.", "off", 0)
        if mode == "local":
            return cls("local", local, LOCAL_SEES, _digest("local", _ROWS, LOOK_ALIKES, DIGITS, MEDIUM), 200)
        if mode == "azure":
            from screen_azure import API_VERSION, AZURE_SEES, Service

            service = Service(environ.get("CONTENT_SAFETY_ENDPOINT", ""))
            return cls("azure", service.judge, AZURE_SEES, _digest("azure", API_VERSION, MEDIUM), 500)
        raise ValueError(f"the environment variable CONTENT_FILTER must be local, azure or off, not {mode!r}")

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> Finding | None:
        """What is wrong with the turns that are not the deployer's, one after the other. Raises Undecided."""
        text = "\n\n".join(m["content"] for m in messages if m["role"] not in TRUSTED)
        return self.judge(text, "prompt") if text.strip() else None

    def answer(self, text: str) -> Finding | None:
        """What is wrong with an answer, whole or so far. Raises Undecided."""
        return self.judge(text, "answer") if text.strip() else None


LOCAL_SEES = (
    "The local screen knows phrases, most of them English: it does not see other words for the same, most other "
    "languages, slurs, irony, code words, and what only several turns or the context make harmful."
)


def local(text: str, where: Where) -> Finding | None:
    """The screen that needs nothing but this process. Linear in the length of the text."""
    folded = fold(text)
    if where == "prompt" and (category := _injection(text, folded)):
        return Finding("injection", category, None, where)
    category = _first(_HARM, (folded,))
    return Finding("harm", category, MEDIUM, where) if category else None


def fold(text: str) -> str:
    """As a reader sees it: compatibility forms, accents, look-alikes and what is invisible are gone; small letters."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKD", text).lower().translate(_FOLDED)


def _injection(text: str, folded: str) -> str:
    if category := _first(_DELIMITERS, (folded,)) or _first(_INJECTION, (folded,)):
        return category
    if SPELT.search(folded):  # i.g.n.o.r.e: without anything between its letters
        run = SPELT.sub(lambda found: GAPS.sub("", found.group()), folded)
        if category := _first(_INJECTION, (run,)) or _first(_DENSE, (run,)):
            return category
    if MIXED.search(folded) and (category := _first(_INJECTION, (folded.translate(_LETTERS),))):
        return category
    hidden = [codecs.decode(folded, "rot13")] if "rot13" in folded or "rot-13" in folded else []
    hidden += [fold(each) for each in _decoded(text)]
    if not text.isascii():
        hidden.append("".join(chr(ord(c) - TAGS) for c in text if c in _TAGS).lower())
    return "encoded" if hidden and _first(_INJECTION, hidden) else ""


SPELT = re.compile(r"(?<![a-z\d])(?:[a-z\d][\W_]{1,2}){5,}[a-z\d](?![a-z\d])")
MIXED = re.compile(r"[013457@$](?=[a-z])|(?<=[a-z])[013457@$]")
GAPS = re.compile(GAP)
TAGS = 0xE0000  # where ASCII lies a second time, as characters that nobody sees
CODED = re.compile(r"(?<![\w+/-])[\w+/-]{24,}+={0,2}", re.ASCII)


def _decoded(text: str) -> Iterable[str]:
    """What stands in the text as hexadecimal digits or base64, where it is text."""
    pieces = []
    for match in CODED.finditer(text):
        code = match.group().rstrip("=")
        try:
            raw = bytes.fromhex(code)
        except ValueError:
            try:
                raw = base64.b64decode(code.replace("-", "+").replace("_", "/") + "=" * (-len(code) % 4), validate=True)
            except binascii.Error:
                continue
        try:
            pieces.append(raw.decode())
        except UnicodeDecodeError:
            continue
    return ["".join(pieces)] if pieces else []


_Compiled = tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...]


def _compiled(rows: Sequence[Row], gap: str) -> _Compiled:
    return tuple((category, needs, re.compile(pattern.replace(" ", gap))) for category, needs, pattern in rows)


def _first(rows: _Compiled, texts: Iterable[str]) -> str:
    """The category of the first row that one of the texts has, else ""."""
    for text in texts:
        for category, needs, pattern in rows:
            if any(word in text for word in needs) and pattern.search(text):
                return category
    return ""


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


_ROWS = (INJECTION, DELIMITERS, HARM)
_INJECTION, _HARM, _DELIMITERS = _compiled(INJECTION, GAP), _compiled(HARM, GAP), _compiled(DELIMITERS, " ")
# Of a text whose letters stood apart no word boundaries are left.
_DENSE = tuple((c, n, re.compile(p.pattern.replace(r"\b", ""))) for c, n, p in _compiled(INJECTION[:1], ""))
_LETTERS = str.maketrans(DIGITS)
_INVISIBLE = [0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
_MARKS = [*range(0x300, 0x370), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]  # accents, variants of a glyph
_TAGS = frozenset(chr(TAGS + code) for code in range(0x20, 0x7F))
_FOLDED: dict[int, str | None] = dict.fromkeys([*_INVISIBLE, *_MARKS, *map(ord, _TAGS)])
_FOLDED |= {ord(other): letter for letter, others in LOOK_ALIKES.items() for other in others}
