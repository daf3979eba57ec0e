"""`run()` as the server calls it, with a tiny model: replies, limits, and what happens when the model fails."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import score
from service import Service, load, model_folder
from tiny_models import make_model, make_tokenizer

TALK = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the hat"}]


@pytest.fixture
def served(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(score, "service", service)
    return service


def ask(body: Any) -> tuple[int, Any]:
    response = score.run(body if isinstance(body, str) else json.dumps(body))
    return response.status_code, response.get_json()


def test_all_shapes_give_the_same_answer(served: Service) -> None:
    user = TALK[1:]
    status, openai = ask({"messages": user, "max_tokens": 12, "temperature": 0})
    answer = openai["choices"][0]["message"]["content"]
    assert status == 200
    assert openai["usage"]["prompt_tokens"] == len(served.prompts.encode(user))
    assert openai["model"] == served.name
    parameters = {"max_new_tokens": 12}
    assert ask({"input_data": ["the hat"], "params": parameters}) == (200, [answer])
    assert ask({"input_data": {"input_string": user, "parameters": parameters}}) == (200, {"output": answer})
    assert ask({"input_data": {"input_string": [user, user], "parameters": parameters}}) == (200, [answer, answer])
    assert "the hat" not in answer, "the prompt was echoed"


@pytest.mark.usefixtures("served")
def test_log_probabilities_come_with_the_answer() -> None:
    _, reply = ask({"messages": TALK, "max_tokens": 6, "temperature": 0, "logprobs": True})
    (choice,) = reply["choices"]
    told = choice["logprobs"]["content"]
    assert len(told) == reply["usage"]["completion_tokens"] > 0
    assert all(each["logprob"] <= 0 for each in told)
    assert "logprobs" not in ask({"messages": TALK, "max_tokens": 6})[1]["choices"][0]


@pytest.mark.usefixtures("served")
def test_the_default_length_is_the_settings() -> None:
    _, reply = ask({"messages": TALK})
    assert reply["usage"]["completion_tokens"] <= 8


@pytest.mark.parametrize("tokens", [1, 64])
def test_a_prompt_too_long_is_413_with_numbers(served: Service, tokens: int) -> None:
    room = 1024 - tokens
    frame = len(served.prompts.encode([{"role": "user", "content": "x"}])) - 1
    fits = [{"role": "user", "content": "x" * (room - frame)}]
    status, reply = ask({"messages": fits, "max_tokens": tokens})
    assert (status, reply["usage"]["prompt_tokens"]) == (200, room)
    status, reply = ask({"messages": [{"role": "user", "content": "x" * (room - frame + 1)}], "max_tokens": tokens})
    assert status == 413
    assert str(room + 1) in reply["error"]["message"]
    assert str(room) in reply["error"]["message"]


@pytest.mark.parametrize("body", ["{", "[]", '{"messages": []}', '{"input_data": ["a"], "params": {"n": 2}}'])
@pytest.mark.usefixtures("served")
def test_bad_requests_are_400(body: str) -> None:
    status, reply = ask(body)
    assert status == 400
    assert set(reply) == {"error"}
    assert set(reply["error"]) == {"code", "message", "type", "param"}
    assert reply["error"]["param"]


def test_too_slow_is_504_and_leaves_the_batch(served: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "service", replace(served, timeout=0.0))
    status, reply = ask({"messages": TALK, "max_tokens": 64})
    monkeypatch.setattr(score, "service", served)
    assert status == 504
    assert "SCORING_TIMEOUT_MS" in reply["error"]["message"]
    assert ask({"messages": TALK})[0] == 200


def test_a_failing_model_is_500_with_a_sentence_and_recovers(served: Service) -> None:
    served.batcher.engine.head = None
    status, reply = ask({"messages": TALK})
    assert status == 500
    assert "log" in reply["error"]["message"]
    assert ask({"messages": TALK})[0] == 200


def test_before_init_is_500_not_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "service", None)
    assert ask({"messages": TALK})[0] == 500


def test_the_model_folder(tmp_path: Path, model_root: Path) -> None:
    assert model_folder(str(model_root)) == model_root / "tiny"
    assert model_folder(str(model_root / "tiny")) == model_root / "tiny"
    with pytest.raises(FileNotFoundError, match="no config"):
        model_folder(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="not set"):
        model_folder("")


@pytest.mark.parametrize("value", ["many", "-1", "0"])
def test_a_wrong_setting_stops_the_start(model_root: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MAX_BATCH_SIZE", value)
    with pytest.raises(ValueError, match="MAX_BATCH_SIZE must be a whole number of at least 1"):
        load(model_folder(str(model_root)))


def test_a_phi3_folder_is_served_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model("phi3").save_pretrained(tmp_path)
    make_tokenizer(rstrip=True).save_pretrained(tmp_path)
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(tmp_path))
    monkeypatch.setattr(score, "service", None)
    score.init()
    status, reply = ask({"messages": TALK, "max_tokens": 5})
    assert status == 200
    assert reply["choices"][0]["finish_reason"] in ("stop", "length")


@pytest.mark.usefixtures("served")
def test_logs_hold_no_prompt(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        ask({"messages": [{"role": "user", "content": "secret words"}]})
        ask({"messages": [{"role": "user", "content": "secret words"}], "max_tokens": 0})
    assert "secret" not in caplog.text
