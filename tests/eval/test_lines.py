"""Prompt flow and plain Python give the same outputs, the same table and the same scores for the same rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eval.errors import EvalError
from eval.flow import FLOW, flow_digest
from eval.lines import line
from eval.run import run
from eval.scores import read_scores
from tests.eval.endpoint import prompts_file

pytestmark = pytest.mark.slow


def test_both_engines_ask_and_score_the_same(tmp_path, stub):
    prompts = prompts_file(tmp_path / "p.jsonl", 60)
    stub.statuses = {"text 0": 424, "text 1": "blocked", "text 2": 503, "text 5": 413}
    found = {}
    for by in ("promptflow", "python"):
        stub.bodies = []
        done = run(prompts, stub.uri, tmp_path / by / "s.jsonl", few_shot=1, by=by)
        rows = [row.model_dump(exclude={"latency_ms"}) for row in read_scores(tmp_path / by / "s.jsonl")]
        asked = sorted(json.dumps(body, sort_keys=True) for body in stub.bodies)
        counts = (done.model_errors, done.blocked, done.infra_errors, done.flow_digest, done.metrics)
        answers = (tmp_path / by / "s.answers.jsonl").read_text()
        found[by] = rows, asked, counts, [json.loads(text).get("answer") for text in answers.splitlines()]
    assert found["promptflow"] == found["python"]
    rows, asked, counts, _ = found["python"]
    assert counts[:3] == (2, 1, 1) and len(asked) == 63
    assert [row["status"] for row in rows[:4]] == ["model_error", "blocked", "infra_error", "ok"]


def test_plain_python_loads_no_prompt_flow(tmp_path, stub):
    """It is what is left when prompt flow is retired."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['promptflow'] = None\n"
        "import azure.identity\nazure.identity.DefaultAzureCredential = lambda **_: None\n"
        "azure.identity.get_bearer_token_provider = lambda *_: (lambda: 'a-token')\n"
    )
    code = (
        "from pathlib import Path\nfrom eval.flow import FLOW\nfrom eval.lines import line\n"
        "print(line(FLOW, 'python')({'input_data': 'text 7'}, 0)['answer'])"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "ENDPOINT_SCORING_URI": stub.uri}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ('{"n": 7}\n', "", 0)


@pytest.mark.parametrize("by", ["promptflow", "python"])
def test_a_wrong_input_is_one_sentence(by, stub, monkeypatch):
    monkeypatch.setenv("ENDPOINT_SCORING_URI", stub.uri)
    with pytest.raises(EvalError, match=r"flow failed: .*input_data is empty") as caught:
        line(FLOW, by)({"input_data": " "}, 0)
    assert "\n" not in str(caught.value)


def test_which_filter_is_on_is_a_part_of_what_was_asked(monkeypatch):
    monkeypatch.delenv("CONTENT_FILTER", raising=False)
    default = flow_digest()
    monkeypatch.setenv("CONTENT_FILTER", "local")
    assert flow_digest() == default
    monkeypatch.setenv("CONTENT_FILTER", "off")
    assert flow_digest() != default
