"""azureml-inference-server-http around serving/score.py, in a process of its own, as the endpoint has it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

SERVING = Path(__file__).parents[2] / "serving"
SERVE = "from azureml_inference_server_http.amlserver import run; run()"
ESTABLISHED = "01"  # in /proc/net/tcp
GUNICORN = "--threads 40 --keep-alive 75 --graceful-timeout 60"


@dataclass(frozen=True)
class Server:
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def workers(self) -> list[int]:
        """Process ids of gunicorn's workers."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(each) for each in text.split()]

    def wait_until_read(self, connections: int, seconds: float = 20) -> None:
        """Until so many clients are connected and the server has read what all of them sent."""
        until = time.monotonic() + seconds
        port = f":{int(self.url.rsplit(':', 1)[1]):04X}"
        while True:
            rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            unread = [row[4].split(":")[1] for row in rows if row[1].endswith(port) and row[3] == ESTABLISHED]
            if len(unread) >= connections and {int(each, 16) for each in unread} == {0}:
                return
            assert time.monotonic() < until, f"{len(unread)} connections, {connections} wanted"
            time.sleep(0.02)

    def wait_until_healthy(self, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()[-3000:]
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.url, timeout=5).text == "Healthy":
                    return
            time.sleep(0.1)


@contextlib.contextmanager
def serve(model: Path, log: Path, **settings: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "AZUREML_MODEL_DIR": str(model), "AML_APP_ROOT": str(SERVING), "HF_HUB_OFFLINE": "1",
        "GUNICORN_CMD_ARGS": GUNICORN, "OMP_NUM_THREADS": "1",
        "CONTENT_FILTER": "off",  # it holds back a window of each stream, longer than a tiny model's answers
        **settings,
    }  # fmt: skip
    arguments = ["--entry_script", "score.py", "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, *arguments], cwd=SERVING, env=environment, stdout=out, stderr=out
        )
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        server.wait_until_healthy()
        yield server
    finally:
        if process.poll() is None:
            for worker in server.workers():  # nothing is to be finished any more
                os.kill(worker, signal.SIGQUIT)
            process.send_signal(signal.SIGQUIT)
        process.wait(30)


def post(client: httpx.Client, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/score", content=content, headers={"Content-Type": "application/json"})


def events(lines: Iterator[str]) -> Iterator[Any]:
    """What the events of a stream say, "[DONE]" included."""
    for line in lines:
        if line:
            assert line.startswith("data: "), line
            yield line[6:] if line == "data: [DONE]" else json.loads(line[6:])
