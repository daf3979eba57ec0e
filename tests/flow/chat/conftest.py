"""The page's server as a user starts it, in a process of its own, in front of a scripted endpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.flow.chat.endpoint import Endpoint, start

ROOT = Path(__file__).parents[3]
# Stands where a sign-in would: azure-identity itself is not what these tests are about.
SIGNED_IN = """
import azure.identity
azure.identity.DefaultAzureCredential = lambda **_: None
azure.identity.get_bearer_token_provider = lambda *_: (lambda: "a-token")
"""


@dataclass
class Server:
    url: str
    endpoint: Endpoint
    process: subprocess.Popen[str]

    def end(self) -> tuple[int, str]:
        """Ctrl-C: the exit code, and all it wrote."""
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=15)
        return self.process.returncode, out


def environment(folder: Path, uri: str) -> dict[str, str]:
    (folder / "sitecustomize.py").write_text(SIGNED_IN)
    path = os.pathsep.join([str(ROOT / "flow"), str(folder)])
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}  # nothing outside is to be reached
    return os.environ | proxy | {"PYTHONPATH": path, "ENDPOINT_SCORING_URI": uri}


def start_server(folder: Path, endpoint: Endpoint) -> Server:
    process = subprocess.Popen(
        [sys.executable, "-m", "chat", "--port", "0"],
        env=environment(folder, endpoint.uri),
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout
    line = process.stdout.readline()
    assert "http://127.0.0.1:" in line, line + process.stdout.read()
    return Server(next(word for word in line.split() if word.startswith("http")), endpoint, process)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    endpoint = start()
    running = start_server(tmp_path_factory.mktemp("chat"), endpoint)
    yield running
    running.process.kill()
    running.process.wait()
    endpoint.stop()
