"""The whole evaluation against a local endpoint over real HTTP: real prompt flow batch, real promptflow-evals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from eval.errors import EvalError, InfraError
from eval.run import main, run
from eval.scores import read_scores

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


class Stub(ThreadingHTTPServer):
    """Echoes {"n": N} for a text that ends in N; `statuses` makes texts fail, `delay` is the time to answer."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self) -> None:
        self.delay, self.statuses, self.bodies, self.headers_seen = 0.0, {}, [], []
        self.now, self.most, self.lock = 0, 0, threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server_port}/score"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        stub, text = self.server, body["messages"][-1]["content"]
        with stub.lock:
            stub.now += 1
            stub.most = max(stub.most, stub.now)
            stub.bodies.append(body)
            stub.headers_seen.append(dict(self.headers))
        time.sleep(stub.delay)
        number = re.search(r"\d+$", text)
        answer = json.dumps({"n": int(number.group()) if number else -1})
        reply = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
        reply["usage"] = {"prompt_tokens": 10, "completion_tokens": 2}
        status = stub.statuses.get(text, 200)
        data = json.dumps(reply if status == 200 else {"error": "sorry"}).encode()
        with stub.lock:
            stub.now -= 1
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub(monkeypatch):
    import azure.identity

    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", lambda **_: None)
    monkeypatch.setattr(azure.identity, "get_bearer_token_provider", lambda *_: lambda: "a-token")
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _seconds: None))
    server = Stub()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def prompts_file(path: Path, count: int) -> Path:
    """Every third conversation is a long one; the answer to the last is expected to be wrong."""
    rows = []
    for i in range(count):
        turn = [{"role": "user", "content": f"before {i}"}, {"role": "assistant", "content": "{}"}]
        expected = json.dumps({"n": i if i < count - 1 else "other"})
        last = [{"role": "user", "content": f"text {i}"}, {"role": "assistant", "content": expected}]
        messages = [{"role": "system", "content": "S"}, *(turn if i % 3 == 0 else []), *last]
        rows.append({"id": f"h-{i:03}", "cluster_id": f"c{i // 2}", "messages": messages, "slices": {"x": str(i % 2)}})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def outside(monkeypatch):
    """Every address outside the machine that something tries to reach or to look up."""
    tried = []
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def local(host):
        return host is None or str(host) in ("localhost", "::1") or str(host).startswith(("127.", "/"))

    def guarded_connect(self, address):
        host = address[0] if isinstance(address, tuple) else None
        if not local(host):
            tried.append(address)
            raise OSError("not in a test")
        return connect(self, address)

    def guarded_lookup(host, *args, **kwargs):
        if not local(host):
            tried.append(host)
            raise OSError("not in a test")
        return lookup(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_lookup)
    return tried


def test_a_whole_evaluation(tmp_path, stub, outside):
    settings = Path(os.environ["PF_HOME_DIRECTORY"]) / "pf.yaml"
    settled = settings.stat().st_ino, settings.read_bytes()
    out = tmp_path / "scores" / "green.jsonl"
    done = run(prompts_file(tmp_path / "p.jsonl", 12), stub.uri, out, deployment="green", few_shot=1, repeats=2)
    rows = read_scores(out)
    assert len(rows) == done.rows == 24 and done.prompts == 12
    assert [row.metrics["exact_match"] for row in rows] == [1.0] * 22 + [0.0] * 2
    assert done.metrics["exact_match"] == pytest.approx(22 / 24) and done.metrics["json_valid"] == 1
    assert (rows[0].key, rows[1].key) == (("h-000", 0), ("h-000", 1))
    assert rows[6].cluster_id == "c1" and rows[6].slices == {"x": "1"}
    assert all(row.latency_ms > 0 and row.tokens == 12 for row in rows)
    answers = [json.loads(line) for line in (tmp_path / "scores" / "green.answers.jsonl").read_text().splitlines()]
    said = {"repeat": 0, "history": [], "prompt": "text 1", "expected": '{"n": 1}', "answer": '{"n": 1}'}
    assert len(answers) == 24 and answers[2] == {"prompt_id": "h-001", **said}
    assert [turn["content"] for turn in answers[0]["history"]] == ["before 0", "{}"]
    assert {path.name for path in out.parent.iterdir()} == {"green.jsonl", "green.answers.jsonl"}
    # Whoever reads the settings while another process rewrites them may find none, and telemetry on.
    assert (settings.stat().st_ino, settings.read_bytes()) == settled
    assert outside == []


def test_what_is_sent(tmp_path, stub):
    run(prompts_file(tmp_path / "p.jsonl", 4), stub.uri, tmp_path / "s.jsonl", deployment="green", few_shot=1)
    sent = {body["messages"][-1]["content"]: body["messages"] for body in stub.bodies}
    assert set(sent) == {f"text {i}" for i in range(4)}
    assert [message["role"] for message in sent["text 3"]] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert sent["text 3"][3]["content"] == "before 3"
    assert not any("other" in message["content"] for message in sent["text 3"]), "the expected answer was sent"
    headers = {name.lower(): value for name, value in stub.headers_seen[0].items()}
    assert headers["azureml-model-deployment"] == "green" and headers["authorization"] == "Bearer a-token"
    run(tmp_path / "p.jsonl", stub.uri, tmp_path / "s.jsonl")
    assert "azureml-model-deployment" not in {name.lower() for name in stub.headers_seen[-1]}


def test_failures_are_the_models_or_nobodys(tmp_path, stub):
    stub.statuses = {"text 0": 424, "text 1": 400, "text 2": 503}
    prompts = prompts_file(tmp_path / "p.jsonl", 60)
    done = run(prompts, stub.uri, tmp_path / "s.jsonl")
    rows = read_scores(tmp_path / "s.jsonl")
    assert [row.status for row in rows[:4]] == ["model_error", "model_error", "infra_error", "ok"]
    assert (
        rows[0].metrics == {"exact_match": 0, "json_valid": 0, "field_accuracy": 0, "f1": 0} and rows[2].metrics == {}
    )
    assert (done.model_errors, done.infra_errors, rows[2].latency_ms) == (2, 1, None)
    assert done.metrics["exact_match"] == pytest.approx(56 / 59)
    assert sum(body["messages"][-1]["content"] == "text 2" for body in stub.bodies) == 4


def test_too_many_lost_answers_stop_it_and_leave_no_table(tmp_path, stub, capsys):
    stub.statuses = {f"text {i}": 503 for i in range(3)}
    prompts, out = prompts_file(tmp_path / "p.jsonl", 20), tmp_path / "out" / "s.jsonl"
    with pytest.raises(InfraError, match=r"3 of 20 prompts got no answer .* 2%.* 503"):
        run(prompts, stub.uri, out)
    code = main(["--prompts", str(prompts), "--scoring-uri", stub.uri, "--out", str(out)])
    assert code == 4 and "3 of 20" in capsys.readouterr().err and not out.parent.exists()


def test_a_flow_that_cannot_run_says_why(tmp_path, stub):
    with pytest.raises(EvalError, match=r"failed on 3 of 3 rows: .*few_shot is 999"):
        run(prompts_file(tmp_path / "p.jsonl", 3), stub.uri, tmp_path / "s.jsonl", few_shot=999)
    assert not (tmp_path / "s.jsonl").exists() and stub.bodies == []


@pytest.mark.parametrize(
    "options", [{"repeats": 0}, {"concurrency": 0}, {"few_shot": -1}, {"scoring_uri": "endpoint/score"}]
)
def test_a_wrong_option_is_one_sentence(tmp_path, options):
    given = {"scoring_uri": "http://127.0.0.1:1/score", **options}
    with pytest.raises(EvalError):
        run(prompts_file(tmp_path / "p.jsonl", 1), given.pop("scoring_uri"), tmp_path / "s.jsonl", **given)


def test_requests_are_in_flight_together_and_little_is_added(tmp_path, stub):
    """150 answers of 50 ms, 16 at a time, are 0.5 s; promptflow's process pool takes twelve for them."""
    prompts = prompts_file(tmp_path / "p.jsonl", 150)
    run(prompts, stub.uri, tmp_path / "warm.jsonl")  # the imports
    stub.delay, stub.most = 0.05, 0
    done = run(prompts, stub.uri, tmp_path / "s.jsonl", concurrency=16)
    assert 12 <= stub.most <= 16
    assert done.seconds < 8
    stub.most = 0
    run(prompts_file(tmp_path / "p.jsonl", 20), stub.uri, tmp_path / "s.jsonl", concurrency=3)
    assert stub.most == 3


def test_the_environment_is_as_it_was(tmp_path, stub, monkeypatch):
    monkeypatch.setenv("ENDPOINT_SCORING_URI", "mine")
    monkeypatch.delenv("ENDPOINT_DEPLOYMENT", raising=False)
    run(prompts_file(tmp_path / "p.jsonl", 2), stub.uri, tmp_path / "s.jsonl", deployment="green")
    assert os.environ["ENDPOINT_SCORING_URI"] == "mine"
    assert not {"ENDPOINT_DEPLOYMENT", "PF_WORKER_COUNT"} & os.environ.keys()


def test_a_promptflow_that_is_already_at_home_elsewhere_is_refused(tmp_path, monkeypatch):
    """With its own home it would send telemetry and start a service, as it did to the authors of this test."""
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(tmp_path))
    import promptflow.core  # noqa: F401

    with pytest.raises(EvalError, match="set PF_HOME_DIRECTORY before the first import"):
        run(prompts_file(tmp_path / "p.jsonl", 1), "http://127.0.0.1:1/score", tmp_path / "s.jsonl")


SIGNED_IN = """
import azure.identity
azure.identity.DefaultAzureCredential = lambda **_: None
azure.identity.get_bearer_token_provider = lambda *_: (lambda: "a-token")
"""


@pytest.fixture
def command(tmp_path, stub):
    """`python -m eval.run` in a process of its own, with a home that can be looked at afterwards."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SIGNED_IN)
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "HOME": str(home), "TMPDIR": str(tmp_path)}
    environment = {name: value for name, value in environment.items() if not name.startswith("PF_")}
    prompts = prompts_file(tmp_path / "p.jsonl", 30)
    arguments = ["--prompts", prompts, "--scoring-uri", stub.uri, "--out", tmp_path / "out" / "s.jsonl"]
    return SimpleNamespace(
        argv=[sys.executable, "-m", "eval.run", *map(str, arguments)],
        options={"cwd": ROOT, "env": environment, "text": True},
        home=home,
    )


def service_runs() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", 23333)) == 0


def test_the_command_is_quiet_private_and_starts_no_service(command, tmp_path):
    before = service_runs()
    done = subprocess.run(command.argv, capture_output=True, timeout=120, check=True, **command.options)
    assert done.stdout.startswith("30 answers in ") and "exact_match 0.967" in done.stdout
    assert done.stderr.splitlines() == ["Asking the endpoint 30/30"]
    assert not (command.home / ".promptflow").exists()
    assert not list(tmp_path.glob("promptflow-*")), "the private home was left behind"
    assert service_runs() == before


def test_ctrl_c_ends_it_at_once_and_leaves_nothing(command, stub, tmp_path):
    stub.delay = 60
    process = subprocess.Popen(command.argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **command.options)
    deadline = time.monotonic() + 60
    while not stub.bodies and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and "Interrupted: nothing was written." in said
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("promptflow-*"))


def test_a_killed_run_leaves_no_table(command, stub, tmp_path):
    stub.delay = 60
    process = subprocess.Popen(command.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **command.options)
    deadline = time.monotonic() + 60
    while not stub.bodies and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert stub.bodies and not (tmp_path / "out").exists()
