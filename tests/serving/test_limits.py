"""The real server when it is asked too much, for too long, or by clients that leave: who else is served, and when.

The model never ends an answer by itself, and its batch has two rows: whether a row is free shows in who gets in.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from real_server import Server, events, post, serve
from tiny_models import make_model, make_tokenizer

pytestmark = pytest.mark.slow
USER = [{"role": "user", "content": "the hat"}]
ENDLESS = {"messages": USER, "max_tokens": 50_000}  # a minute and more
SHORT = {"messages": USER, "max_tokens": 2}
TIMEOUT_SECONDS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("endless")
    make_model("llama", eos_token_id=[], max_position_embeddings=100_000).save_pretrained(root / "tiny")
    make_tokenizer().save_pretrained(root / "tiny")
    settings = {
        "MAX_BATCH_SIZE": "2", "MAX_QUEUED_REQUESTS": "1", "MAX_OUTPUT_TOKENS": "60000",
        "SCORING_TIMEOUT_MS": str(TIMEOUT_SECONDS * 1000), "CLIENT_TIMEOUT_MS": "1500",
    }  # fmt: skip
    with serve(root, root / "log", **settings) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
        _let_in(client)  # the next test finds an empty batch


def _let_in(client: httpx.Client, within: float = 15) -> float:
    """Seconds until three requests at once are answered: both rows and the queue are free."""
    started = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        while {r.status_code for r in pool.map(lambda _: post(client, SHORT), range(3))} != {200}:
            assert time.monotonic() - started < within, "the rows were never free again"
            time.sleep(0.05)
    return time.monotonic() - started


@contextlib.contextmanager
def _busy(server: Server, streams: int) -> Iterator[list[Iterator[Any]]]:
    """So many endless streams under way; their clients leave at the end."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(streams):
            one = stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
            reply = stack.enter_context(one.stream("POST", "/score", json={**ENDLESS, "stream": True}))
            assert reply.status_code == 200
            found.append(events(reply.iter_lines()))
        yield found


def test_too_many_are_refused_at_once_and_probes_and_feedback_never(server: Server, client: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as pool, _busy(server, 2):
        waiting = pool.submit(post, client, {**SHORT, "max_tokens": 3})
        time.sleep(0.5)
        refused = [post(client, SHORT) for _ in range(20)]
        assert {reply.status_code for reply in refused} == {429}
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
        assert refused[0].json()["error"]["message"].endswith("Retry-After.")
        assert client.get("/").text == "Healthy"
        feedback = post(client, {"feedback": {"id": "0" * 32, "rating": "up"}})
        assert (feedback.status_code, feedback.json()["error"]["param"]) == (400, "feedback"), "its collection is off"
        assert post(client, {"messages": "x"}).status_code == 400, "a mistake is told whatever the load"
        assert not waiting.done(), "all of this happened while there was no room"
    assert waiting.result().status_code == 200, "who waited in the queue was answered"


@pytest.mark.parametrize("stream", [True, False])
def test_the_rows_of_clients_that_left_are_free_at_once(server: Server, client: httpx.Client, stream: bool) -> None:
    """Two running and one waiting leave; without that they would be there until the time-out."""
    bodies = [httpx.Client(base_url=server.url, timeout=60) for _ in range(3)]
    asked = {**ENDLESS, "stream": True} if stream else ENDLESS
    threads = [threading.Thread(target=_ask_and_fail, args=(each, asked)) for each in bodies]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    assert post(client, SHORT).status_code == 429
    for each in bodies:
        each._transport._pool._connections[0]._connection._network_stream.get_extra_info("socket").shutdown(2)  # type: ignore[attr-defined]
    assert _let_in(client) < TIMEOUT_SECONDS - 2
    for thread in threads:
        thread.join()


def _ask_and_fail(client: httpx.Client, body: Any) -> None:
    with contextlib.suppress(httpx.HTTPError):
        client.post("/score", json=body)


def test_after_the_deadline_a_plain_answer_is_504_and_a_stream_ends_with_an_error(
    server: Server, client: httpx.Client
) -> None:
    with _busy(server, 1) as (stream,):
        started = time.monotonic()
        late = post(client, ENDLESS)
        assert TIMEOUT_SECONDS - 0.5 < time.monotonic() - started < 3 * TIMEOUT_SECONDS  # it would go on for a minute
        assert (late.status_code, "SCORING_TIMEOUT_MS" in late.json()["error"]["message"]) == (504, True)
        *pieces, last = stream
        assert last["error"]["code"] == 504
        assert len(pieces) > 50
        assert "[DONE]" not in pieces
        _let_in(client)


def test_clients_that_stall_in_the_middle_of_a_request_are_let_go(client: httpx.Client) -> None:
    """gunicorn itself would wait for them without end, a thread for each."""
    with contextlib.ExitStack() as stack:
        stalled = []
        for _ in range(4):
            address = client.base_url.host, client.base_url.port or 80
            one = stack.enter_context(socket.create_connection(address, timeout=20))
            one.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            stalled.append(one)
        assert client.get("/").text == "Healthy"
        assert post(client, SHORT).status_code == 200
        assert all(_ended(one) for one in stalled)


def _ended(connection: socket.socket) -> bool:
    """Whether the server ends it; TimeoutError when it does not."""
    while connection.recv(4096):
        pass
    return True


def test_a_client_that_reads_slowly_holds_up_nobody(server: Server, client: httpx.Client) -> None:
    started = time.monotonic()
    with _busy(server, 1) as (stream,):
        next(stream)
        assert post(client, {**SHORT, "max_tokens": 20}).status_code == 200
        assert time.monotonic() - started < TIMEOUT_SECONDS, "it waited for the end of the other's stream"
