"""A run that ends early loses nothing that was answered, and what was answered is not asked again."""

import json
import signal
import subprocess
import time

import pytest

from eval import ledger
from eval.errors import EvalError, InfraError
from eval.run import run
from eval.scores import read_scores
from eval.scoring import Judge
from tests.eval.endpoint import prompts_file

pytestmark = pytest.mark.slow


def asked(stub) -> list[str]:
    return [body["messages"][-1]["content"] for body in stub.bodies]


def kept(folder, kind: str) -> dict:
    return {key: value for path in folder.glob(f".kept/{kind}-*") for key, value in ledger.read(path).items()}


def until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_goes_on_where_it_was(command, stub, tmp_path, how):
    out = tmp_path / "out"
    argv = [*command.argv, "--concurrency", "2"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **command.options)
    stub.delay = 0.05
    until(lambda: len(stub.bodies) >= 9)
    stub.delay = 60
    until(lambda: stub.now == 2)
    until(lambda: len(kept(out, "unfinished")) == len(stub.bodies) - 2)
    process.send_signal(how)
    _, said = process.communicate(timeout=30)  # it does not wait for the two answers under way, which take 60 s
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert not list(out.glob("*.jsonl")), "half a table"
    there = kept(out, "unfinished")
    before = asked(stub)[: len(there)]
    if how == signal.SIGINT:
        assert f"{len(there)} of 30 answers are kept" in said
        assert not list(tmp_path.glob("promptflow-*"))
    stub.bodies.clear()
    stub.delay = 0.0
    again = subprocess.run(argv, capture_output=True, timeout=60, check=True, **command.options)
    assert f"{len(there)} of 30 answers are there from before" in again.stderr
    assert len(asked(stub)) == 30 - len(there) and not set(asked(stub)) & set(before)
    rows = read_scores(out / "s.jsonl")
    assert len(rows) == 30 and sum(row.metrics["exact_match"] for row in rows) == 29
    assert kept(out, "unfinished") == {}, "the answers of a model that nobody named outlived their table"
    stub.bodies.clear()
    subprocess.run(argv, capture_output=True, timeout=60, check=True, **command.options)
    assert len(asked(stub)) == 30, "answers of a model that nobody named were used for another table"


def test_what_is_the_same_is_not_asked_again_and_what_differs_is(tmp_path, stub):
    prompts, same = prompts_file(tmp_path / "p.jsonl", 6), {"model_digest": "m1", "serving": "s1", "quiet": True}
    first = run(prompts, stub.uri, tmp_path / "a.jsonl", **same)
    rows = read_scores(tmp_path / "a.jsonl")
    assert len(stub.bodies) == 6 and first.model == "m1"
    again = run(prompts, stub.uri, tmp_path / "b.jsonl", deployment="blue", **same)
    assert len(stub.bodies) == 6 and again.answer_seconds == 0
    assert again.evaluated_at == first.evaluated_at, "kept answers look as young as the run that used them"
    assert read_scores(tmp_path / "b.jsonl") == rows, "with the latencies of then"
    for differs, more in [
        ({"model_digest": "m2"}, 6),
        ({"model_digest": ""}, 6),
        ({"serving": "s2"}, 6),
        ({"few_shot": 1}, 6),
        ({"repeats": 2}, 6),  # of the 12, the first repeats are there
        ({"fresh": True}, 6),
    ]:
        stub.bodies.clear()
        run(prompts, stub.uri, tmp_path / "c.jsonl", **{**same, **differs})
        assert len(stub.bodies) == more, differs
    lines = [json.loads(line) for line in prompts.read_text().splitlines()]
    lines[0]["messages"][-1]["content"] = "another expectation"
    lines[1]["messages"][-2]["content"] = "another text 1"
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stub.bodies.clear()
    run(prompts, stub.uri, tmp_path / "c.jsonl", **same)
    assert asked(stub) == ["another text 1"]
    assert [row.metrics["exact_match"] for row in read_scores(tmp_path / "c.jsonl")][:2] == [0.0, 1.0]


def test_the_models_failures_are_kept_and_lost_answers_are_not(tmp_path, stub):
    prompts = prompts_file(tmp_path / "p.jsonl", 60)
    stub.statuses = {"text 0": 424, "text 1": 503}
    run(prompts, stub.uri, tmp_path / "a.jsonl", model_digest="m", quiet=True)
    statuses = [value["status"] for value in kept(tmp_path, "model").values()]
    assert sorted(statuses) == ["model_error", *["ok"] * 58]
    stub.statuses, stub.bodies[:] = {}, []
    run(prompts, stub.uri, tmp_path / "b.jsonl", model_digest="m", quiet=True)
    assert asked(stub) == ["text 1"]
    assert [row.status for row in read_scores(tmp_path / "b.jsonl")][:2] == ["model_error", "ok"]


def test_after_an_outage_only_the_rest_is_asked(tmp_path, stub):
    prompts = prompts_file(tmp_path / "p.jsonl", 30)
    stub.statuses = {f"text {i}": 404 for i in range(20, 30)}
    with pytest.raises(InfraError, match=r"answers are kept"):
        run(prompts, stub.uri, tmp_path / "a.jsonl", concurrency=2, quiet=True)
    there = len(kept(tmp_path, "unfinished"))
    stub.statuses, stub.bodies[:] = {}, []
    run(prompts, stub.uri, tmp_path / "a.jsonl", quiet=True)
    assert there >= 20 and len(stub.bodies) == 30 - there


def test_scores_are_kept_for_the_same_judge(tmp_path, stub, monkeypatch):
    prompts = prompts_file(tmp_path / "p.jsonl", 5)
    run(prompts, stub.uri, tmp_path / "a.jsonl", model_digest="m", quiet=True)

    def refuse(*_, **__):
        raise EvalError("judged again")

    monkeypatch.setattr(Judge, "score", refuse)
    run(prompts, stub.uri, tmp_path / "b.jsonl", model_digest="m", quiet=True)
    assert read_scores(tmp_path / "a.jsonl") == read_scores(tmp_path / "b.jsonl")
    with pytest.raises(EvalError, match="judged again"):
        run(prompts, stub.uri, tmp_path / "b.jsonl", model_digest="m", quiet=True, fresh=True)
    assert not stub.bodies[10:], "asked again, though only the judge was to be"


def test_two_runs_at_once_share_what_is_kept(command, stub, tmp_path):
    stub.delay = 0.02
    argv = [*command.argv, "--model-digest", "m", "--concurrency", "4"]
    both = [
        subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **command.options)
        for _ in range(2)
    ]
    assert [process.wait(60) for process in both] == [0, 0]
    [path] = (tmp_path / "out" / ".kept").glob("model-*")
    lines = path.read_text().splitlines()
    assert len(ledger.read(path)) == 30 <= len(lines) and all(json.loads(line) for line in lines)
    stub.bodies.clear()
    subprocess.run(argv, capture_output=True, timeout=60, check=True, **command.options)
    assert stub.bodies == []
