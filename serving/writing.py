"""Turns an answer's tokens into text piece by piece: never half a character, never the beginning of a stop sequence.

A streamed answer and a plain one go through the same steps, so their texts are equal to the byte.
"""

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"  # what a tokenizer makes of bytes that are no character yet


class Writer:
    """`add` each token and send what it returns; `end` gives the rest. `stopped`: a stop sequence came; no more then.

    Only the tokens since the last settled piece are decoded, behind those of that piece, whose presence settles the
    white space between them.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self.decode, self.stops = decode, stops
        self.ids: list[int] = []
        self.stopped = False
        self._start, self._read = 0, 0  # text of ids[_start:_read] is out already; it is decoded again as a lead-in
        self._lead = ""
        self._held = ""  # decoded, and perhaps the beginning of a stop sequence

    def add(self, token: int) -> str:
        self.ids.append(token)
        now = self.decode(self.ids[self._start :])
        if now.endswith(UNFINISHED) or len(now) <= len(self._lead):
            return ""
        fresh = now[len(self._lead) :]
        self._start, self._read = self._read, len(self.ids)
        self._lead = self.decode(self.ids[self._start :])
        return self._release(fresh, last=False)

    def end(self) -> str:
        if self.stopped:
            return ""
        return self._release(self.decode(self.ids[self._start :])[len(self._lead) :], last=True)

    def _release(self, fresh: str, last: bool) -> str:
        text = self._held + fresh
        found = [at for at in (text.find(stop) for stop in self.stops) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = 0 if last else max((_begun(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _begun(text: str, stop: str) -> int:
    """How many of the text's last characters may be the beginning of `stop`."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)


def whole(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> str:
    """The text of a finished answer, as a Writer would have given it."""
    text = decode(ids)
    if UNFINISHED not in text:
        return text
    # With broken characters some tokenizers decode a run of bytes otherwise once its end is known.
    writer = Writer(decode)
    return "".join([*map(writer.add, ids), writer.end()])
