"""How far a long run is, for people: a bar on a terminal, elsewhere a line every ten seconds and one at the end."""

import sys
import time
from typing import TextIO


class Reporter:
    """`total` rows, of which `before` were there already; the rate is of the others. Quiet: says nothing."""

    def __init__(self, label: str, total: int, before: int = 0, *, every: float = 10.0, quiet: bool = False) -> None:
        self._label, self._total, self._before, self._every, self._quiet = label, total, before, every, quiet
        # Kept, because promptflow puts something else in the place of sys.stderr while it works.
        self._out: TextIO = sys.stderr
        self._started = self._last = time.monotonic()
        self._said = -1

    def __call__(self, done: int) -> None:
        """`done` rows of the total are there."""
        if self._quiet:
            return
        now, ended = time.monotonic(), done == self._total
        if self._out.isatty():
            filled = round(30 * done / self._total)
            bar = "━" * filled + "╌" * (30 - filled)
            self._out.write(f"\r{self._label} {bar} {self._how_far(done, now)}\x1b[K" + "\n" * ended)
            self._out.flush()
        elif done != self._said and (ended or now - self._last >= self._every):
            self._out.write(f"{self._label} {self._how_far(done, now)}\n")
            self._out.flush()
            self._last, self._said = now, done

    def say(self, sentence: str) -> None:
        if not self._quiet:
            self._out.write(("\r\x1b[K" if self._out.isatty() else "") + sentence + "\n")
            self._out.flush()

    def _how_far(self, done: int, now: float) -> str:
        asked, seconds = done - self._before, now - self._started
        if asked <= 0 or seconds <= 0:
            return f"{done}/{self._total}"
        rate = asked / seconds
        left = "" if done == self._total else f", {duration((self._total - done) / rate)} left"
        return f"{done}/{self._total}, {rate:.3g}/s{left}"


def duration(seconds: float) -> str:
    """3725 → 1:02:05, 65 → 1:05, 9 → 9 s."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
