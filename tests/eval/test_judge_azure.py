"""Azure OpenAI and Azure AI Content Safety with Entra tokens, in a process whose every address and file is noted."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.command import command_env
from emulator.context import Settings
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from tests.eval.judge_server import JudgeServer, judge_server, rule
from tests.eval.safety_server import SafetyServer, safety_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMES = ["groundedness", "relevance", "coherence", "fluency"]
ROW = {"query": "Where is it?", "answer": "It is in Paris, punch punch.", "expected": "In Paris.", "context": "Paris."}
CODE = """
import json, os, sys
reached, written = set(), set()
def watch(event, arguments):
    if event == "socket.getaddrinfo":
        reached.add(str(arguments[0]))
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        reached.add(str(arguments[1][0]))
    elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.add(str(arguments[0]))
sys.addaudithook(watch)
from eval.engine import score_answers
from eval.errors import EvalError
from eval.metrics import Metrics, judge_digest
metrics, rows = json.loads(sys.argv[1])
try:
    metrics = Metrics.model_validate(metrics)
    judge_digest(metrics)
    scores = score_answers(rows, metrics)
except EvalError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
print(json.dumps({"scores": scores, "reached": sorted(reached), "written": sorted(written)}))
"""


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("judge") / "home"
    serve = start_serve(Options(home, {}, operation_seconds=0.0), detached=False)
    try:
        yield Settings.load(home)
    finally:
        stop_serve(serve, home)


@pytest.fixture
def judge() -> Iterator[JudgeServer]:
    with judge_server() as found:
        yield found


@pytest.fixture
def safety(tmp_path: Path) -> Iterator[SafetyServer]:
    with safety_server(tmp_path) as found:
        yield found


def score(settings: dict[str, Any], environment: dict[str, str], home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**environment, "HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PF_HOME_DIRECTORY", None)  # ours to choose
    (home / "tmp").mkdir(parents=True)
    return subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([settings, [ROW]])],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
    )


@pytest.mark.parametrize("engine", ["promptflow-evals", "azure-ai-evaluation"])
def test_entra_tokens_alone_no_address_outside_and_nothing_in_the_users_home(
    engine: str, azure: Settings, judge: JudgeServer, safety: SafetyServer, tmp_path: Path
) -> None:
    environment = command_env(azure)
    del environment[MARK]
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(azure.ca.read_bytes() + safety.ca.read_bytes())
    environment |= {
        **dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"), str(trusted)),
        "MLOPS_JUDGE_ENDPOINT": judge.url,
        "MLOPS_JUDGE_KEY": "must-not-be-sent",
        "MLOPS_SAFETY_ENDPOINT": safety.url,
    }
    evaluators = {**dict.fromkeys([*NAMES, "f1", "similarity"]), "safety": {"service": "azure"}}
    settings = {
        "engine": engine,
        "evaluators": evaluators,
        "judge": {"service": "azure-openai", "model": "gpt-judge"},
    }
    home = tmp_path / "home"
    done = score(settings, environment, home)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    (scores,) = found["scores"]
    columns = {name: ROW[name] for name in ("query", "answer", "context")}
    assert {name: scores[name] for name in NAMES} == {name: rule(name, **columns) for name in NAMES}
    assert scores["safety.violence"] == 2 and scores["safety.violence_defect"] == 0
    assert {request["path"] for request in judge.requests} == {"/openai/v1/chat/completions"}
    assert {request["body"]["model"] for request in judge.requests} == {"gpt-judge"}
    tokens = {request["headers"]["authorization"] for request in [*judge.requests, *safety.requests]}
    assert len(tokens) == 1 and tokens.pop().startswith("Bearer ey")  # an Entra token, not the key
    assert not any("api-key" in request["headers"] for request in judge.requests)
    assert found["reached"] and set(found["reached"]) <= {"127.0.0.1", "localhost", "::1"}
    assert [path for path in home.iterdir() if path.name != "tmp"] == []
    outside = [path for path in found["written"] if not path.startswith((str(home / "tmp"), "/dev/"))]
    assert found["written"] and outside == []


def test_no_login_is_infrastructure(judge: JudgeServer, tmp_path: Path) -> None:
    settings = {"evaluators": {"fluency": {}}, "judge": {"service": "azure-openai", "model": "m"}}
    environment = {
        "PATH": "/nowhere",
        "MLOPS_JUDGE_ENDPOINT": judge.url,
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }
    done = score(settings, environment, tmp_path / "home")
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith("No Entra token for Azure AI services") and done.stderr.count("\n") == 1
    assert judge.requests == []
