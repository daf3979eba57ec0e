"""The only way out for everything the train starts, and it leads nowhere but here.

An HTTP CONNECT proxy that knows a short table of Azure host names and connects those, on port 443, to loopback ports.
Every other request, and every plain-HTTP one, is refused with 403 and written to HOME/refused.jsonl. It resolves no
name and opens no other connection. Runs as a process of its own (standard library alone) so that large transfers do
not slow the server down.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
LOOPBACK = "127.0.0.1"
CHUNK = 2**18
HEAD_SECONDS = 30.0
REQUEST_LINE = re.compile(r"([A-Z]+) (\S+) HTTP/1\.[01]")
TARGET = re.compile(r"([A-Za-z0-9.-]+):(\d{1,5})")


@dataclass(frozen=True)
class Table:
    """Which host goes to which loopback port."""

    account: str
    region: str
    blob_port: int
    server_port: int

    def port_of(self, host: str) -> int | None:
        """The loopback port that answers for `host`; None when it is not emulated."""
        if host == f"{self.account}.blob.core.windows.net":
            return self.blob_port
        label = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
        ours = (
            r"management\.azure\.com",
            r"login\.microsoftonline\.com",
            r"pipelines\.actions\.githubusercontent\.com",
            rf"{label}\.api\.azureml\.ms",
            rf"{re.escape(self.region)}\.metrics\.monitor\.azure\.com",
            r"api\.loganalytics\.(?:io|azure\.com)",
            rf"cert-{re.escape(self.region)}\.experiments\.azureml\.net",
            rf"{label}\.{re.escape(self.region)}\.inference\.ml\.azure\.com",
            rf"{label}\.{re.escape(self.region)}\.models\.ai\.azure\.com",
        )
        return self.server_port if any(re.fullmatch(pattern, host) for pattern in ours) else None


@dataclass(frozen=True)
class Decision:
    """`port` on loopback to connect to, or the `reason` for refusing. Exactly one is set."""

    port: int | None = None
    reason: str | None = None


def decide(request_line: str, table: Table) -> Decision:
    """What to do with the first line of a request. Anything that is not understood is refused."""
    line = REQUEST_LINE.fullmatch(request_line)
    if line is None:
        return Decision(reason="not an HTTP request")
    if line[1] != "CONNECT":
        return Decision(reason="plain HTTP is never forwarded")
    target = TARGET.fullmatch(line[2])
    if target is None or target[2] != "443":
        return Decision(reason="only HOST:443 is forwarded")
    port = table.port_of(target[1].lower())
    return Decision(port=port) if port else Decision(reason="host is not emulated")


def _acknowledge(source: asyncio.StreamWriter) -> None:
    """Acknowledge what was read at once: urllib3 keeps Nagle on behind a proxy, and the two would wait 40 ms
    for each other in every request. Linux forgets the option at each use; elsewhere there is none."""
    raw = source.get_extra_info("socket")
    if raw is not None and hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


async def _relay(reader: asyncio.StreamReader, source: asyncio.StreamWriter, writer: asyncio.StreamWriter) -> None:
    """Copy one direction; `source` is the writer of the connection that `reader` reads."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            _acknowledge(source)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def make_handler(table: Table, refused: Path) -> Handler:
    """A connection handler for asyncio.start_server."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS)
            line = head.split(b"\r\n", 1)[0].decode("latin-1")
            decision = decide(line, table)
            if decision.port is None:
                record = {"time": time.time(), "request": line.split("?")[0][:300], "reason": decision.reason}
                with refused.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                body = f"Refused by the local Azure ML: {decision.reason}.\n".encode()
                status = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                writer.write(status + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
                return
            back, upstream = await asyncio.open_connection(LOOPBACK, decision.port, limit=CHUNK)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_relay(reader, writer, upstream), _relay(back, upstream, writer))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            pass  # the peer went away or the target is not up: closing says so
        finally:
            for end in (writer, upstream):
                if end is not None:
                    with contextlib.suppress(OSError):
                        end.close()

    return handle


async def _serve(port: int, table: Table, refused: Path) -> None:
    server = await asyncio.start_server(make_handler(table, refused), LOOPBACK, port, limit=CHUNK)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="The emulator's proxy; started by `python -m emulator serve`.")
    for name in ("--port", "--blob-port", "--server-port"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--account", "--region", "--refused"):
        parser.add_argument(name, required=True)
    args = parser.parse_args()
    table = Table(args.account, args.region, args.blob_port, args.server_port)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(args.port, table, Path(args.refused)))


if __name__ == "__main__":
    main()
