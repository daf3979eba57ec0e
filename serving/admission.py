"""How many answers may be under way, and what a client hears that comes on top: when to come back, as measured here.

Without it the server's threads fill up, health probes wait behind answers, and clients time out in a queue that nobody
sees. A request is turned away in a millisecond instead.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LEARNS = 0.2  # weight of the newest answer in the running mean of how long one takes
LONGEST_SECONDS = 60  # that a client is asked to wait


class Full(Exception):
    """No room, or (`closing`) none any more: this server is being stopped. `seconds`: when it is worth asking again."""

    def __init__(self, seconds: int, closing: bool = False) -> None:
        super().__init__()
        self.seconds, self.closing = seconds, closing


@dataclass
class Admission:
    """Up to `rows` answers are generated together and `queued` more wait. Safe to use from many threads."""

    rows: int
    queued: int
    inside: int = 0
    seconds: float = 0.0  # that the model takes for an answer, as a running mean; 0: none was measured yet
    closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def place(self, answers: int) -> Iterator[None]:
        """Room for a request of so many answers, which may overshoot. Raises Full."""
        with self._lock:
            if self.closed:
                raise Full(1, closing=True)
            if self.inside >= self.rows + self.queued:
                raise Full(self.wait())
            self.inside += answers
        try:
            yield
        finally:
            with self._lock:
                self.inside -= answers

    def measured(self, seconds: float) -> None:
        """An answer took the model so long."""
        with self._lock:
            self.seconds += (LEARNS if self.seconds else 1.0) * (seconds - self.seconds)

    def wait(self) -> int:
        """Whole seconds, at least one, until who waits now has begun: rows become free at a rate of rows/seconds."""
        waiting = max(0, self.inside - self.rows) + 1
        return min(LONGEST_SECONDS, max(1, math.ceil(waiting * self.seconds / self.rows)))
