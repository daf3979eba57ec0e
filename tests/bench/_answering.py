"""`python -m tests.bench._answering SECONDS`: a server that gives each request the same answer after so long, however
many come at once. Prints its port. Lean, in a process of its own, so that what is measured is who asks."""

import asyncio
import json
import sys

CHOICE = {"message": {"role": "assistant", "content": '{"category":"billing"}'}}
BODY = json.dumps({"choices": [CHOICE], "usage": {"prompt_tokens": 90, "completion_tokens": 30}}).encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            await asyncio.sleep(seconds)
            writer.write(REPLY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    seconds = float(sys.argv[1])
    server = await asyncio.start_server(lambda r, w: answer(r, w, seconds), "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
