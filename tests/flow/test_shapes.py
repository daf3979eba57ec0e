"""The flow against an endpoint of the samples: what is posted, what is read, what it cannot do."""

import json

import pytest
from asking import Result, ask, calling, sign_in, stream

SYSTEM = {"role": "system", "content": "S"}
USER = {"role": "user", "content": "Where is my parcel?"}
COUNTS = {"x-prompt-tokens": "7", "x-completion-tokens": "5", "azureml-model-deployment": "blue"}
SHAPES = {
    "code-first": ([USER], {"input_data": [USER["content"]], "params": {"max_new_tokens": 9}}, '["4"]'),
    "foundry": (
        [SYSTEM, USER],
        {"input_data": {"input_string": [SYSTEM, USER], "parameters": {"max_new_tokens": 9}}},
        '{"output": "4"}',
    ),
    "ml-sdk": (
        [SYSTEM, USER],
        {"input_data": {"input_string": [[SYSTEM, USER]], "parameters": {"max_new_tokens": 9}}, "params": {}},
        '["4"]',
    ),
}


@pytest.fixture(autouse=True)
def signed_in(monkeypatch, endpoint):
    monkeypatch.setattr(sign_in, "token", lambda: "a-token")
    monkeypatch.setattr(calling, "_wait", lambda _state: 0.0)
    monkeypatch.setenv("ENDPOINT_SCORING_URI", endpoint.uri)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_asks_and_reads_in_the_shape_that_is_set(endpoint, monkeypatch, shape):
    messages, body, reply = SHAPES[shape]
    monkeypatch.setenv("ENDPOINT_SHAPE", shape)
    endpoint.replies = [(200, COUNTS, reply)]
    result = ask(messages, {"max_tokens": 9})
    assert endpoint.requests[0][1] == body
    assert (result.answer, result.status, result.tokens, result.deployment) == ("4", "ok", 12, "blue")
    piece, last = stream(messages, {"max_tokens": 9})
    assert endpoint.requests[1][1] == body, "these shapes know no streams"
    assert piece == "4" and isinstance(last, Result) and last.answer == "4"


@pytest.mark.parametrize("reply", ['{"output": "4"}', '["4"]', '[{"0": "4"}]'])
def test_each_of_azures_own_servers_is_understood(endpoint, monkeypatch, reply):
    monkeypatch.setenv("ENDPOINT_SHAPE", "foundry")
    endpoint.replies = [(200, COUNTS, reply)]
    assert ask([SYSTEM, USER]).answer == "4"


@pytest.mark.parametrize("shape", SHAPES)
def test_the_likeliest_words_are_asked_for_so_that_every_server_gives_them(endpoint, monkeypatch, shape):
    monkeypatch.setenv("ENDPOINT_SHAPE", shape)
    messages, _, reply = SHAPES[shape]
    endpoint.replies = [(200, COUNTS, reply)]
    for decoding, sent in (({"temperature": 0}, {"temperature": 0, "do_sample": False}), ({"temperature": 0.5},) * 2):
        ask(messages, decoding)
        told = endpoint.requests[-1][1]
        assert (told["params"] if shape == "code-first" else told["input_data"]["parameters"]) == sent


@pytest.mark.parametrize("reply", ["{}", "[]", "[1]", "no JSON", json.dumps({"output": None})])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_reply_of_another_shape_is_the_models_failure(endpoint, monkeypatch, shape, reply):
    monkeypatch.setenv("ENDPOINT_SHAPE", shape)
    endpoint.replies = [(200, {}, reply)]
    result = ask(SHAPES[shape][0])
    assert (result.status, result.detail) == ("model_error", f"the model's reply has not the shape {shape}")
    assert list(stream(SHAPES[shape][0]))[-1].status == "model_error"


def test_what_a_shape_cannot_carry_and_a_shape_that_nobody_knows_is_one_sentence(monkeypatch):
    monkeypatch.setenv("ENDPOINT_SHAPE", "code-first")
    with pytest.raises(ValueError, match="without system prompt or history"):
        ask([SYSTEM, USER])
    monkeypatch.setenv("ENDPOINT_SHAPE", "openapi")
    with pytest.raises(
        ValueError, match="ENDPOINT_SHAPE must be one of openai, code-first, foundry, ml-sdk, not 'open"
    ):
        ask([USER])
