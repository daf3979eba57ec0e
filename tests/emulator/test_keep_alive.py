"""A request must not be lost to a server that closes idle connections, as gunicorn does after two seconds."""

import asyncio

from emulator.runtime import IDLE_CONNECTION_SECONDS, Runtime

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def _closes_what_was_idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers; then what comes on the same connection after a pause is met by a close, as in the race."""
    loop = asyncio.get_running_loop()
    answered = None
    while await reader.readuntil(b"\r\n\r\n"):
        if answered and loop.time() - answered > IDLE_CONNECTION_SECONDS:
            break
        writer.write(ANSWER)
        await writer.drain()
        answered = loop.time()
    writer.close()


def test_an_idle_connection_is_not_used_again() -> None:
    async def ask_twice() -> list[int]:
        server = await asyncio.start_server(_closes_what_was_idle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/score"
        http = Runtime(emulator=None, traffic=None).http()  # type: ignore[arg-type]
        try:
            first = await http.get(url)
            await asyncio.sleep(IDLE_CONNECTION_SECONDS + 0.3)
            return [first.status_code, (await http.get(url)).status_code]
        finally:
            await http.aclose()
            server.close()

    assert asyncio.run(ask_twice()) == [200, 200]
