"""A server that is stopped answers what it has begun; a worker that is killed takes only its own requests along."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from digest import of_folder
from real_server import Server, events, post, serve
from service import load
from tiny_models import make_model, make_tokenizer

from scripts import digests

USER = [{"role": "user", "content": "the hat"}]
WHILE = {"messages": USER, "max_tokens": 700}
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("stopping")
    make_model("llama", eos_token_id=[]).save_pretrained(root / "tiny")
    make_tokenizer().save_pretrained(root / "tiny")
    with serve(root, root / "log", MAX_BATCH_SIZE="4", MAX_QUEUED_REQUESTS="16") as server:
        yield server


def _status(url: str, body: object, client: httpx.Client | None = None) -> int:
    """The status of a request on a connection of its own; 0 when the connection broke."""
    try:
        return (client or httpx).post(f"{url}/score", json=body, timeout=60).status_code
    except httpx.TransportError:
        return 0


@slow
def test_a_killed_worker_fails_its_own_requests_and_the_next_one_comes_by_itself(server: Server) -> None:
    (worker,) = server.workers()
    with ThreadPoolExecutor(8) as pool:
        hit = [pool.submit(_status, server.url, WHILE) for _ in range(4)]
        time.sleep(0.3)
        os.kill(worker, signal.SIGKILL)
        time.sleep(0.5)
        later = [pool.submit(_status, server.url, WHILE) for _ in range(4)]
        assert [each.result() for each in hit] == [0] * 4
        assert [each.result() for each in later] == [200] * 4, "they wait for the new worker"
    assert server.workers() != [worker]


@slow
def test_a_stopped_server_answers_running_and_waiting_requests_and_takes_no_new_ones(server: Server) -> None:
    assert _status(server.url, {**WHILE, "max_tokens": 1}) == 200
    with (
        httpx.Client(base_url=server.url, timeout=60) as client,
        ThreadPoolExecutor(12) as pool,
        client.stream("POST", "/score", json={**WHILE, "stream": True}) as stream,
    ):
        kept = httpx.Client(base_url=server.url, timeout=60)
        assert kept.get("/").text == "Healthy"
        asked = [pool.submit(_status, server.url, WHILE, client) for _ in range(12)]
        server.wait_until_read(len(asked) + 2)
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        refused = post(kept, WHILE)  # on a connection that was open before
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["message"].startswith("This server is being stopped")
        assert not all(each.done() for each in asked), "nothing was under way any more: the test shows nothing"
        assert [each.result() for each in asked] == [200] * 12
        assert list(events(stream.iter_lines()))[-1] == "[DONE]"
    assert server.process.wait(20) == 0
    assert _status(server.url, WHILE) == 0


def test_the_digest_of_a_model_is_that_of_the_commands(tmp_path: Path, model_root: Path) -> None:
    assert of_folder(model_root) == digests.of_folder(model_root)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "ä.bin").write_bytes(b"x" * 3_000_000)
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_text("")
    assert of_folder(tmp_path) == digests.of_folder(tmp_path)


@pytest.mark.parametrize("changed", ["model.safetensors", "tokenizer.json", "more.txt"])
def test_another_model_than_the_one_deployed_is_not_served(
    model_root: Path, tmp_path: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    for file in (model_root / "tiny").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("MODEL_DIGEST", digests.of_folder(folder))
    assert load(folder).digest == digests.of_folder(folder)
    with (folder / changed).open("a") as file:
        file.write(" ")
    with pytest.raises(ValueError, match=r"was deployed: it is not served$"):
        load(folder)
