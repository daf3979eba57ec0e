"""Streams of a container go on to the client as they come, and end for both when either of them leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

import anyio
import httpx
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

STREAM = "text/event-stream"
T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection before there was anything to send."""


def is_stream(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.headers.get("content-type", "").startswith(STREAM)


class PassedOn(StreamingResponse):
    """Sends each piece the moment it comes. `after` is called, function by function, when no more will be sent.

    A client that leaves closes the container's connection too. What takes longer than `deadline` (time.monotonic()), or
    is cut short by the container, is cut short for the client: its connection is closed without the last chunk.
    """

    def __init__(self, answer: httpx.Response, headers: Mapping[str, str], deadline: float) -> None:
        super().__init__(self._pieces(), 200, headers)
        self.answer, self.deadline = answer, deadline
        self.after: list[Callable[[], None]] = []

    async def _pieces(self) -> AsyncIterator[bytes]:
        parts = self.answer.aiter_bytes().__aiter__()
        while True:
            part = await asyncio.wait_for(_next(parts), max(0.0, self.deadline - time.monotonic()))
            if part is None:
                return
            yield part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except (TimeoutError, httpx.HTTPError):
            pass  # returning without the last chunk has the server close the connection
        finally:
            await self.finish()

    async def drain(self) -> None:
        """Read a copy that is for nobody."""
        try:
            async for _ in self.body_iterator:
                pass
        except (TimeoutError, httpx.HTTPError):
            pass
        finally:
            await self.finish()

    async def finish(self) -> None:
        after, self.after = self.after, []
        for each in after:
            each()
        with anyio.CancelScope(shield=True):
            await self.answer.aclose()


async def _next(parts: AsyncIterator[bytes]) -> bytes | None:
    return await anext(parts, None)


async def unless_gone(work: Awaitable[T], gone: Callable[[], Awaitable[None]] | None) -> T:
    """What `work` comes to. ClientGone, and the work is cancelled, when the client leaves first."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(gone()) if gone else None
    try:
        await asyncio.wait({doing, leaving} if leaving else {doing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGone
        return doing.result()
    finally:
        for each in (doing, leaving):
            if each is not None and not each.done():
                each.cancel()
