"""How many requests one deployment takes at once: a queue in front of a scoring server."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field


class Busy(Exception):
    """More requests than the deployment takes."""


@dataclass
class Gate:
    """How many requests a deployment works on at once. Only touched from the server's event loop.

    Twice the limit may be inside, working or waiting; more are turned away
    (https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints, status 429).
    """

    active: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    async def enter(self, limit: int, wait: float) -> None:
        """Take a slot, waiting up to `wait` seconds. Busy when there is no room; TimeoutError when it lasts."""
        if self.active + len(self.waiting) >= 2 * limit:
            raise Busy
        if self.active < limit:
            self.active += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            await asyncio.wait_for(turn, wait)
        except BaseException:
            if turn.done() and not turn.cancelled():  # the slot came at the very moment the client gave up
                self.leave()
            elif turn in self.waiting:
                self.waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Give the slot back, or on to the one that waits longest."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.active -= 1
