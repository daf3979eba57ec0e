"""The whole evaluation against a local endpoint over real HTTP: the real prompt flow, the real promptflow-evals."""

import json
import os
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eval.errors import EvalError, InfraError
from eval.flow import flow_digest
from eval.run import main, run
from eval.scores import read_scores, scores_digest
from eval.summary import beside, read_summary
from tests.eval.endpoint import prompts_file

pytestmark = pytest.mark.slow


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
    begun = datetime.now(UTC)
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
    assert {path.name for path in out.parent.iterdir()} == {
        "green.jsonl",
        "green.answers.jsonl",
        "green.run.json",
        ".kept",
    }
    assert [path.name.partition("-")[0] for path in (out.parent / ".kept").iterdir()] == ["scores"]
    assert read_summary(beside(out)) == done and done.scores_digest == scores_digest(rows)
    assert (done.model, done.decoding, done.flow_digest) == (None, {"temperature": 0, "max_tokens": 48}, flow_digest())
    assert begun <= done.evaluated_at <= datetime.now(UTC) and done.answer_seconds <= done.seconds
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
    with pytest.raises(InfraError, match=r"[123] of 20 prompts got no answer .* 2%.* 503"):
        run(prompts, stub.uri, out)
    code = main(["--prompts", str(prompts), "--scoring-uri", stub.uri, "--out", str(out)])
    assert code == 4 and " of 20 prompts got no answer" in capsys.readouterr().err
    assert {path.name for path in out.parent.iterdir()} <= {".kept"}


def test_an_endpoint_that_is_down_is_not_asked_everything(tmp_path, stub):
    prompts = prompts_file(tmp_path / "p.jsonl", 100)
    stub.statuses = {f"text {i}": 404 for i in range(100)}
    with pytest.raises(InfraError, match=r"of 100 prompts got no answer"):
        run(prompts, stub.uri, tmp_path / "s.jsonl", concurrency=4)
    assert len(stub.bodies) < 20


def test_a_flow_that_cannot_run_says_why(tmp_path, stub, capfd):
    with pytest.raises(EvalError, match=r"prompt flow failed: .*few_shot is 999"):
        run(prompts_file(tmp_path / "p.jsonl", 3), stub.uri, tmp_path / "s.jsonl", few_shot=999, quiet=True)
    assert not (tmp_path / "s.jsonl").exists() and stub.bodies == []
    assert capfd.readouterr().err == "", "promptflow's page about it"


@pytest.mark.parametrize(
    "options", [{"repeats": 0}, {"concurrency": 0}, {"few_shot": -1}, {"scoring_uri": "endpoint/score"}]
)
def test_a_wrong_option_is_one_sentence(tmp_path, options):
    given = {"scoring_uri": "http://127.0.0.1:1/score", **options}
    with pytest.raises(EvalError):
        run(prompts_file(tmp_path / "p.jsonl", 1), given.pop("scoring_uri"), tmp_path / "s.jsonl", **given)


def test_requests_are_in_flight_together(tmp_path, stub):
    """150 answers of 150 ms are 22 s one after the other, and 1.4 s 16 at a time (`make bench BENCH=evaluation`)."""
    prompts = prompts_file(tmp_path / "p.jsonl", 150)
    run(prompts, stub.uri, tmp_path / "warm.jsonl")  # the imports
    stub.delay, stub.most = 0.15, 0
    done = run(prompts, stub.uri, tmp_path / "s.jsonl", concurrency=16)
    assert 12 <= stub.most <= 16
    assert done.answer_seconds < 150 * 0.15 / 2
    stub.most = 0
    run(prompts_file(tmp_path / "p.jsonl", 20), stub.uri, tmp_path / "s.jsonl", concurrency=3)
    assert stub.most == 3


def test_the_environment_is_as_it_was(tmp_path, stub, monkeypatch):
    streams = sys.stdout, sys.stderr
    monkeypatch.setenv("ENDPOINT_SCORING_URI", "mine")
    monkeypatch.delenv("ENDPOINT_DEPLOYMENT", raising=False)
    run(prompts_file(tmp_path / "p.jsonl", 2), stub.uri, tmp_path / "s.jsonl", deployment="green")
    assert os.environ["ENDPOINT_SCORING_URI"] == "mine"
    assert "ENDPOINT_DEPLOYMENT" not in os.environ
    assert (sys.stdout, sys.stderr) == streams, "promptflow's recorder was left in their place"


def test_a_promptflow_that_is_already_at_home_elsewhere_is_refused(tmp_path, monkeypatch):
    """With its own home it would send telemetry and start a service, as it did to the authors of this test."""
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(tmp_path))
    import promptflow.core  # noqa: F401

    with pytest.raises(EvalError, match="set PF_HOME_DIRECTORY before the first import"):
        run(prompts_file(tmp_path / "p.jsonl", 1), "http://127.0.0.1:1/score", tmp_path / "s.jsonl")


def service_runs() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", 23333)) == 0


def test_the_command_is_quiet_private_and_starts_no_service(command, tmp_path):
    before = service_runs()
    done = subprocess.run(command.argv, capture_output=True, timeout=120, check=True, **command.options)
    assert done.stdout.startswith("30 answers in ") and "exact_match 0.967" in done.stdout
    assert re.fullmatch(r"Asking the endpoint 30/30, [\d.]+/s\n", done.stderr)
    assert not (command.home / ".promptflow").exists()
    assert not list(tmp_path.glob("promptflow-*")), "the private home was left behind"
    assert service_runs() == before


def test_nobody_signed_in_is_one_sentence(command, stub):
    """Two ways to sign in that need no address outside: a developer's tools, of which this PATH has none."""
    (command.site / "sitecustomize.py").unlink()
    alone = {"AZURE_TOKEN_CREDENTIALS": "dev", "PATH": str(command.home)}
    options = {**command.options, "env": command.options["env"] | alone}
    done = subprocess.run(command.argv, capture_output=True, timeout=120, check=False, **options)
    assert done.returncode == 4 and done.stdout == "" and stub.bodies == []
    assert [line for line in done.stderr.splitlines() if "run `az login`" in line] == done.stderr.splitlines()[-1:]
    assert len(done.stderr.splitlines()) <= 2, done.stderr
