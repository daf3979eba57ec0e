"""A crowd of all kinds at once: everybody gets an answer or a refusal that says why, and nothing is left behind.

`make bench BENCH=soak` does the same for ten minutes.
"""

import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from real_server import GUNICORN, Server, events, serve
from tiny_models import make_model, make_tokenizer

pytestmark = pytest.mark.slow
CLIENTS, SECONDS = 64, 8.0
ROWS, QUEUE = 8, 24
POOL = int(GUNICORN.split()[1])  # threads that gunicorn begins when they are needed, and keeps
WORDS = ["hattock", "sattle", "matling", "whilom", "otherly", "wentish"]  # in no sentence of the log


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("crowd")
    make_model("llama").save_pretrained(root / "tiny")
    make_tokenizer().save_pretrained(root / "tiny")
    settings = {
        "MAX_BATCH_SIZE": str(ROWS), "MAX_QUEUED_REQUESTS": str(QUEUE), "CLIENT_TIMEOUT_MS": "2000",
        "CONTENT_FILTER": "local",
    }  # fmt: skip
    with serve(root, root / "log", **settings) as server:
        yield server


def body(dice: random.Random, **more: object) -> dict[str, object]:
    text = " ".join(dice.choices(WORDS, k=dice.randint(1, 30)))
    return {"messages": [{"role": "user", "content": text}], "max_tokens": dice.randint(1, 40), **more}


def plain(client: httpx.Client, dice: random.Random) -> str:
    reply = client.post("/score", json=body(dice))
    if reply.status_code == 429:
        assert int(reply.headers["retry-after"]) >= 1
        return "refused"
    assert reply.status_code == 200, reply.text
    assert reply.json()["usage"]["completion_tokens"] <= 40
    return "answered"


def streaming(client: httpx.Client, dice: random.Random) -> str:
    with client.stream("POST", "/score", json=body(dice, stream=True)) as reply:
        if reply.status_code == 429:
            return "refused"
        assert reply.status_code == 200
        assert list(events(reply.iter_lines()))[-1] == "[DONE]"
    return "answered"


def leaving(client: httpx.Client, dice: random.Random) -> str:
    """Asks and hangs up before the answer is there."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as raw:
        data = json.dumps(body(dice)).encode()
        raw.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        raw.sendall(b"content-length: %d\r\n\r\n" % len(data) + data)
        time.sleep(dice.random() * 0.05)
    return "left"


def stalling(client: httpx.Client, dice: random.Random) -> str:
    """Sends the half of a request and waits: is let go, and nobody waits for it."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=30) as raw:
        raw.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        assert b"200" not in raw.recv(100).split(b"\r\n")[0]
    return "let go" if dice else ""


def too_long(client: httpx.Client, dice: random.Random) -> str:
    reply = client.post("/score", json={"messages": [{"role": "user", "content": "a" * 1_000_000}]})
    assert reply.status_code == 413, reply.text
    return "too long" if dice else ""


def broken(client: httpx.Client, dice: random.Random) -> str:
    reply = client.post("/score", content=dice.choice([b"\xff\xfe{", b"{", b"[]", b"", b'{"messages": 1}']))
    assert reply.status_code == 400, reply.text
    return "mistaken"


KINDS = [plain] * 36 + [streaming] * 16 + [leaving] * 4 + [stalling] * 2 + [too_long] * 2 + [broken] * 4
assert len(KINDS) == CLIENTS


def crowd(server: Server, seconds: float, seed: int = 0) -> Counter[str]:
    """All clients at once, each in its own way until the time is over. Raises what went wrong with any of them."""
    until = time.monotonic() + seconds

    def one(number: int) -> Counter[str]:
        dice, seen = random.Random(f"{seed} {number}"), Counter[str]()
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while time.monotonic() < until:
                seen[KINDS[number](client, dice)] += 1
        return seen

    with ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(one, range(CLIENTS)))
    return sum(found, Counter())


def held(server: Server) -> tuple[int, int, int]:
    """Open files, threads and resident kilobytes of the one worker."""
    (worker,) = server.workers()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines())
    files = len(list(Path(f"/proc/{worker}/fd").iterdir()))
    return files, int(status["Threads"]), int(status["VmRSS"].split()[0])


def test_a_crowd_of_all_kinds_loses_nothing_and_leaves_nothing(server: Server) -> None:
    (worker,), (_, threads, _) = server.workers(), held(server)
    crowd(server, 2.0, seed=1)  # some files are opened with the first
    time.sleep(3)
    files, *_ = held(server)
    seen = crowd(server, SECONDS)
    assert seen["answered"] > ROWS
    assert min(seen[kind] for kind in ("left", "let go", "too long", "mistaken")) > 0
    deadline = time.monotonic() + 20
    while (now := held(server))[0] > files + 2:
        assert time.monotonic() < deadline, f"{now[0]} files are open, {files} were before"
        time.sleep(0.2)
    assert now[1] <= threads + POOL + 1, "threads were left behind"  # and one that waits for hang-ups
    assert server.workers() == [worker], "the worker died on the way"
    with httpx.Client(base_url=server.url, timeout=10) as client:
        assert plain(client, random.Random(2)) == "answered", "rows or places were left behind"
        with ThreadPoolExecutor(ROWS + QUEUE) as pool:
            dice = [random.Random(number) for number in range(ROWS + QUEUE)]
            assert set(pool.map(lambda each: plain(client, each), dice)) == {"answered"}, "a place was left behind"
    log = server.log.read_text()
    assert "a request failed" not in log
    assert not any(word in log for word in WORDS), "a prompt is in the log"
