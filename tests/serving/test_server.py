"""The real scoring server (gunicorn with threads) around score.py: every request shape at once, mistakes included."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

SERVING = Path(__file__).parents[2] / "serving"
USER = [{"role": "user", "content": "the hat"}]
LONG = [{"role": "user", "content": "a" * 2000}]
# name: (body, status, what the reply must be)
REQUESTS: dict[str, tuple[Any, int, Any]] = {
    "openai": ({"messages": USER, "max_tokens": 12}, 200, lambda r: r["choices"][0]["message"]["role"] == "assistant"),
    "code-first": ({"input_data": ["the hat"], "params": {"max_tokens": 12}}, 200, lambda r: len(r) == 1),
    "foundry": ({"input_data": {"input_string": USER, "parameters": {}}}, 200, lambda r: set(r) == {"output"}),
    "ml sdk": ({"input_data": {"input_string": [USER, USER]}, "params": {}}, 200, lambda r: r[0] == r[1]),
    "not JSON": (b"{", 400, lambda r: "JSON" in r["error"]["message"]),
    "not UTF-8": (b"\xff", 400, lambda r: "UTF-8" in r["message"]),
    "no shape": ({}, 400, lambda r: "messages" in r["error"]["message"]),
    "too long": ({"messages": LONG}, 413, lambda r: "tokens" in r["error"]["message"]),
}


@pytest.fixture(scope="module")
def url(model_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    environment = {
        **os.environ, "AZUREML_MODEL_DIR": str(model_root), "AML_APP_ROOT": str(SERVING), "HF_HUB_OFFLINE": "1",
        "GUNICORN_CMD_ARGS": "--threads 20 --keep-alive 75", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    code = "from azureml_inference_server_http.amlserver import run; run()"
    arguments = ["--entry_script", "score.py", "--port", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=SERVING, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 120
        while True:
            assert server.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            try:
                if httpx.get(address, timeout=5).text == "Healthy":
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        yield address
        assert "the hat" not in log.read_text(), "a prompt was logged"
    finally:
        server.terminate()
        server.wait(30)


def post(client: httpx.Client, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/score", content=content, headers={"Content-Type": "application/json"})


@pytest.mark.slow
def test_all_shapes_and_mistakes_at_once(url: str) -> None:
    names = list(REQUESTS) * 6
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda name: post(client, REQUESTS[name][0]), names))
    seen: dict[str, Any] = {}
    for name, reply in zip(names, replies, strict=True):
        _, status, right = REQUESTS[name]
        assert reply.status_code == status, reply.text
        body = reply.json()
        assert right(body), body
        assert seen.setdefault(name, body) == body, "the answer depends on who else was asking"
    assert seen["code-first"] == [seen["openai"]["choices"][0]["message"]["content"]]


@pytest.mark.slow
def test_health_answers_while_every_row_is_busy(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(16) as pool:
        busy = [pool.submit(post, client, {"messages": USER, "max_tokens": 900}) for _ in range(16)]
        time.sleep(0.3)
        assert httpx.get(url, timeout=5).text == "Healthy"
        assert all(b.result().status_code == 200 for b in busy)
