"""Turns the blocking iterator of `asking.stream` into server-sent events, and ends it when nobody listens any more."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Generator, Mapping
from dataclasses import asdict
from typing import Any

# Threads are cheap, answers are not: more at once than one person can read is a mistake of somebody's.
MOST_AT_ONCE = 8
END = b""
# Pieces of text, and at the end a Result: what asking.stream gives. Closed, it stops the endpoint.
Pieces = Generator[Any, None, None]


class Busy(Exception):
    """MOST_AT_ONCE answers are under way."""


class Streams:
    """The answers under way. One for the process."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)

    def start(self, pieces: Pieces) -> AsyncIterator[bytes]:
        """The events of one answer: `piece`s, then one `result`. Raises Busy; call it in the event loop."""
        if not self._places.acquire(blocking=False):
            raise Busy
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        gone = threading.Event()
        # A daemon: Ctrl-C must not wait for an endpoint that says nothing.
        run = (pieces, asyncio.get_running_loop(), queue, gone)
        threading.Thread(target=self._pump, args=run, daemon=True, name="answer").start()
        return _events(queue, gone)

    def _pump(
        self, pieces: Pieces, loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[bytes], gone: threading.Event
    ) -> None:
        def put(one: bytes) -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(queue.put_nowait, one)

        with contextlib.closing(pieces):
            try:
                for piece in pieces:
                    put(event("piece", {"text": piece}) if isinstance(piece, str) else event("result", asdict(piece)))
                    if gone.is_set():
                        break
            except Exception as error:  # its words may hold the prompt: the kind has to do
                put(event("result", failed(f"the page's server failed ({type(error).__name__})")))
            finally:
                put(END)
                self._places.release()


async def _events(queue: asyncio.Queue[bytes], gone: threading.Event) -> AsyncIterator[bytes]:
    try:
        while one := await queue.get():
            yield one
    finally:
        gone.set()


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """One server-sent event; JSON has no line end in it that could break the frame."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def failed(detail: str) -> dict[str, Any]:
    """A result in the shape of asking's for what went wrong on this side of the endpoint."""
    return {"answer": "", "status": "infra_error", "detail": detail, "deployment": "", "model": "", "tokens": 0}
