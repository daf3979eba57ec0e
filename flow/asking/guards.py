"""The two guards: nothing is asked that must not be asked, nothing is given on that must not be said (../screen.py).

A screen that cannot judge is no answer: `infra_error`, and never "nothing was found".
"""

import functools
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from screen import Finding, Screen, Undecided

from .calling import Message
from .result import Result

SETTINGS = ("CONTENT_FILTER", "CONTENT_SAFETY_ENDPOINT")


def refused_prompt(messages: Sequence[Message]) -> Result | None:
    """The result of a conversation that must not be asked, else None. Raises ValueError for a wrong setting."""
    try:
        found = screen().prompt(messages)
    except Undecided as error:
        return Result("", "infra_error", detail=f"the prompt could not be judged: {error}")
    return Result("", "blocked", detail=_why(found)) if found else None


def guarded(result: Result) -> Result:
    """The same result, or one without the answer where that must not be given on."""
    if result.status != "ok":
        return result
    try:
        found = screen().answer(result.answer)
    except Undecided as error:
        why = f"the answer could not be judged: {error}"
        return replace(result, answer="", logprobs="", status="infra_error", detail=why)
    if found is None:
        return result
    return replace(result, answer="", logprobs="", status="blocked", detail=_why(found))


def guarded_stream(pieces: Generator[str | Result]) -> Iterator[str | Result]:
    """The pieces as far as nothing was found in them, some characters late: nothing bad may be half given out."""
    with closing(pieces):  # whoever stops listening, or is stopped here, stops the endpoint
        yield from _guarded(pieces)


def _guarded(pieces: Iterable[str | Result]) -> Iterator[str | Result]:
    judge = screen()
    text, given, judged = "", 0, 0
    for piece in pieces:
        if isinstance(piece, Result):
            last = guarded(piece)
            if last.status == "ok" and text[given:]:
                yield text[given:]
            yield last
            return
        text += piece
        if len(text) - judged < judge.window:
            continue
        judged = len(text)
        try:
            found = judge.answer(text)
        except Undecided as error:
            yield Result("", "infra_error", detail=f"the answer could not be judged: {error}")
            return
        if found:
            yield Result("", "blocked", detail=_why(found))
            return
        if (safe := len(text) - judge.window) > given:
            yield text[given:safe]
            given = safe


def screen() -> Screen:
    return _screen(tuple(os.environ.get(name, "") for name in SETTINGS))


@functools.lru_cache(4)
def _screen(_settings: tuple[str, ...]) -> Screen:
    return Screen.from_environment()


def _why(found: Finding) -> str:
    return f"the {found.where} was refused by the content filter ({found.kind}, {found.category})"
