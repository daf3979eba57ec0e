"""The commands of prompt flow on the folder as it is, in processes of their own, against a local endpoint."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from asking import sign_in

from tests.flow.conftest import END, FLOW, answering, chunk

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
    return {name: value for name, value in os.environ.items() if name != "PF_LOGGING_LEVEL"} | {
        "PF_HOME_DIRECTORY": str(tmp_path),
        "HOME": str(tmp_path),  # `pf flow build` wants its own home under this one
        "PYTHONPATH": str(tmp_path),
        "ENDPOINT_SCORING_URI": endpoint.uri,
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nothing outside is to be reached, the version check included
        "NO_PROXY": "127.0.0.1,localhost",
    }


def pf(environment, *arguments):
    done = subprocess.run([PF, *arguments], env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def outputs(said):
    """What `pf flow test` shows at its end."""
    return json.loads(said[("\n" + said).rindex("\n{") :])


def test_pf_flow_test_and_a_variant(environment, endpoint):
    asked = ["flow", "test", "--flow", FLOW, "--inputs", "input_data=Where is my parcel?"]
    given = outputs(pf(environment, *asked, "--variant", "${build_messages.careful}"))
    assert (given["status"], given["answer"], given["tokens"]) == ("ok", "{}", 12)
    headers, body = endpoint.requests[0]
    assert headers["authorization"] == "Bearer a-token" and body["messages"][-1]["content"] == "Where is my parcel?"
    assert (body["max_tokens"], body["temperature"]) == (48, 0)
    assert body["messages"][0]["content"] == (FLOW / "system_prompt_careful.txt").read_text().strip()


def test_a_batch_run(environment, endpoint, tmp_path):
    rows = [{"input_data": f"Where is parcel {i}?"} for i in range(5)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["--column-mapping", "input_data=${data.input_data}"]
    pf(environment, "run", "create", "--flow", FLOW, "--data", tmp_path / "rows.jsonl", *columns, "--name", "batch")
    kept = tmp_path / ".runs" / "batch" / "flow_outputs" / "output.jsonl"
    given = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(row["line_number"], row["status"], row["answer"]) for row in given] == [(i, "ok", "{}") for i in range(5)]
    texts = {body["messages"][-1]["content"] for _, body in endpoint.requests}
    assert texts == {row["input_data"] for row in rows}


@pytest.fixture
def served(environment, tmp_path):
    """The folder that `pf flow build` makes for an image, served as the image serves it."""
    built = tmp_path / "built"
    pf(environment, "flow", "build", "--source", FLOW, "--output", built, "--format", "docker")
    assert (built / "Dockerfile").exists()
    requirements = (built / "flow" / "requirements.txt").read_text().split()
    assert set(requirements) >= set((FLOW / "requirements.txt").read_text().split())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PF, "flow", "serve", "--source", built / "flow", "--port", str(port), "--host", "127.0.0.1"]
    log = (tmp_path / "serve.log").open("w")
    server = subprocess.Popen([*command, "--skip-open-browser"], env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 90
        uri = f"http://127.0.0.1:{port}"
        while True:
            try:
                httpx.get(f"{uri}/health", timeout=5, trust_env=False)
                break
            except httpx.ConnectError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.3)
        yield f"{uri}/score"
    finally:
        server.terminate()
        server.wait(30)


def stream(uri):
    """The events of a streamed answer, and whether the reply ended as one should."""
    asked = {"input_data": "Where is my parcel?", "stream": True}
    found = []
    try:
        accept = {"accept": "text/event-stream"}
        with httpx.stream("POST", uri, json=asked, headers=accept, timeout=30, trust_env=False) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            found += [json.loads(line.removeprefix("data:")) for line in reply.iter_lines() if line.strip()]
    except httpx.RemoteProtocolError:
        return found, False
    return found, True


def test_pf_flow_build_and_serve(served, endpoint, tmp_path):
    ask = {"input_data": "My secret is 4711: where is my parcel?"}
    answer = httpx.post(served, json=ask, timeout=30, trust_env=False).json()
    assert (answer["status"], answer["answer"], answer["tokens"]) == ("ok", "{}", 12)
    assert endpoint.requests[0][1]["max_tokens"] == 48

    endpoint.replies, endpoint.pause = [(200, {}, [chunk("x" * 300)] * 3 + [END])], 0.05
    (first, *events), whole = stream(served)
    assert first["status"] == "streaming" and whole
    assert len(events) >= 3 and "".join(event["answer"] for event in events) == "x" * 900

    endpoint.replies = [(200, {}, [chunk("x" * 300)] * 3)]  # cut
    assert not stream(served)[1], "a client takes half an answer for the whole"

    endpoint.replies = [answering("{}")]
    answer = httpx.post(served, json={**ask, "stream": True}, timeout=30, trust_env=False).json()
    assert answer["answer"] == "{}", "a client that did not ask for events"
    assert "4711" not in (tmp_path / "serve.log").read_text()


def test_a_connection_says_where_and_with_which_key(endpoint, tmp_path, monkeypatch):
    from promptflow.executor import FlowExecutor

    monkeypatch.delenv("ENDPOINT_SCORING_URI", raising=False)
    monkeypatch.setattr(sign_in, "token", lambda: pytest.fail("Entra was asked"))
    copy = shutil.copytree(FLOW, tmp_path / "flow")
    dag = copy / "flow.dag.yaml"
    dag.write_text(re.sub('connection: ""', "connection: triage", dag.read_text()))
    assert yaml.safe_load(dag.read_text())["nodes"][2]["inputs"]["connection"] == "triage"
    value = {"scoring_uri": endpoint.uri, "deployment": "green", "key": "a-key"}
    told = {"name": "triage", "type": "CustomConnection", "value": value, "secret_keys": ["key"]}
    executor = FlowExecutor.create(dag, {"triage": told}, working_dir=copy, raise_ex=True)
    assert executor.exec_line({"input_data": "Where is it?"}, index=0).output["status"] == "ok"
    headers, _ = endpoint.requests[0]
    assert (headers["authorization"], headers["azureml-model-deployment"]) == ("Bearer a-key", "green")


def test_plain_python_from_the_shell(environment, endpoint):
    endpoint.replies = [(200, {"azureml-model-deployment": "blue"}, [chunk("{"), chunk("}"), END])]
    command = [sys.executable, "-m", "asking", "Where is my parcel?", "--few-shot", "1"]

    def run(*more):
        return subprocess.run(
            [*command, *more], cwd=FLOW, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    done = run()
    assert (done.returncode, done.stdout) == (0, "{}\n") and "blue" in done.stderr and done.stderr.startswith("ok, ")
    assert [m["role"] for m in endpoint.requests[0][1]["messages"]] == ["system", "user", "assistant", "user"]
    endpoint.replies = [(401, {}, "no")]
    done = run()
    assert done.returncode == 1 and done.stderr.startswith("✗ infra_error") and "Traceback" not in done.stderr
    done = run("--system-prompt", "other.txt")
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "no system prompt" in done.stderr
