"""Notices clients that have closed their connection, so that nobody works for them, and lets go of those that stall.

The kernel tells: one thread sleeps in `epoll` on the sockets of the requests under way. Where that is not to be had
(not Linux, or no gunicorn in front), nobody is noticed to leave and everything else works.
"""

import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Hangups:
    def __init__(self) -> None:
        self._gone: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll:
            threading.Thread(target=self._run, name="hangups", daemon=True).start()

    @contextmanager
    def watch(self, client: socket.socket | None, gone: Callable[[], None]) -> Iterator[None]:
        """While inside, call `gone` (once, from another thread) when the client closes its side."""
        if client is None or self._epoll is None:
            yield
            return
        descriptor = client.fileno()
        with self._lock:
            self._gone[descriptor] = gone
            self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLONESHOT)
        try:
            yield
        finally:
            with self._lock:
                del self._gone[descriptor]
                self._epoll.unregister(descriptor)

    def _run(self) -> None:
        assert self._epoll is not None  # noqa: S101
        while True:
            for descriptor, _ in self._epoll.poll():
                with self._lock:
                    gone = self._gone.get(descriptor)
                    # The number may belong to the next client by now: ask again who it is.
                    if gone and _hung_up(descriptor):
                        gone()


def _hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))


def let_go_of_who_stalls(seconds: float) -> int:
    """Have connections end when a client neither sends what it began nor takes what it asked for, for so long.

    gunicorn's threads wait for such a client without end, and forty of them would be the end of the server. On Linux a
    connection has the time limits of the socket that it came in by. Returns how many of those this process has.
    """
    found, limit = 0, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():  # noqa: PTH208, PTH112
        with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as listener:
            if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
                found += 1
    return found
