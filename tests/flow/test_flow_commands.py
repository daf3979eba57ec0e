"""`pf flow test` and `pf flow serve` on the folder as it is, in processes of their own, against a local endpoint."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

FLOW = Path(__file__).parents[2] / "flow"
PF = Path(sys.executable).with_name("pf")

pytestmark = pytest.mark.slow

# Stands where a sign-in would: azure-identity itself is not what these tests are about.
SIGNED_IN = """
import azure.identity
azure.identity.DefaultAzureCredential = lambda **_: None
azure.identity.get_bearer_token_provider = lambda *_: (lambda: "a-token")
"""


@pytest.fixture
def environment(tmp_path, endpoint):
    (tmp_path / "pf.yaml").write_text("telemetry: {enabled: false}\ntrace: {destination: none}\n")
    (tmp_path / "sitecustomize.py").write_text(SIGNED_IN)
    return os.environ | {
        "PF_HOME_DIRECTORY": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
        "ENDPOINT_SCORING_URI": endpoint.uri,
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nothing outside is to be reached, the version check included
        "NO_PROXY": "127.0.0.1,localhost",
    }


def test_pf_flow_test(environment, endpoint):
    command = [PF, "flow", "test", "--flow", FLOW, "--inputs", "input_data=Where is my parcel?"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status": "ok"' in done.stdout and '"answer": "{}"' in done.stdout
    headers, body = endpoint.requests[0]
    assert headers["authorization"] == "Bearer a-token" and body["messages"][-1]["content"] == "Where is my parcel?"
    assert (body["max_tokens"], body["temperature"]) == (48, 0)


def test_pf_flow_serve(environment, endpoint):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PF, "flow", "serve", "--source", FLOW, "--port", str(port), "--host", "127.0.0.1", "--skip-open-browser"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        answer = None
        while answer is None:
            try:
                asked = {"input_data": "Where is my parcel?"}
                answer = httpx.post(f"http://127.0.0.1:{port}/score", json=asked, timeout=30, trust_env=False).json()
            except httpx.ConnectError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.3)
        assert (answer["status"], answer["answer"], answer["tokens"]) == ("ok", "{}", 12)
        assert endpoint.requests[0][1]["max_tokens"] == 48
    finally:
        server.terminate()
        server.wait(30)
