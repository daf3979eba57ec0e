"""Each shape there and back: the server understands what flow/asking/shapes.py asks in it, and its reply is read."""

import json
from typing import Any

import pytest
from replies import Answer, Heading
from wire import Limits, parse

from flow.asking.shapes import SHAPES

LIMITS = Limits(default_tokens=50, max_tokens=100, max_characters=1000)
USER = [{"role": "user", "content": "What is 2 + 2?"}]
TALK = [{"role": "system", "content": "be brief"}, *USER, {"role": "assistant", "content": "4"}, *USER]
# The samples' own requests and replies (shape, conversation, parameters, body, reply, text).
SAMPLES: list[tuple[str, Any, Any, Any, Any, str]] = [
    ("code-first", USER, {"max_tokens": 9}, {"input_data": ["What is 2 + 2?"], "params": {"max_new_tokens": 9}},
     ["4"], "4"),
    ("foundry", TALK, {"temperature": 0.6},
     {"input_data": {"input_string": TALK, "parameters": {"temperature": 0.6}}}, {"output": "4"}, "4"),
    ("ml-sdk", TALK, {"top_p": 0.9, "do_sample": True},
     {"input_data": {"input_string": [TALK], "parameters": {"top_p": 0.9, "do_sample": True}}, "params": {}},
     ["4"], "4"),
    ("openai", TALK, {"max_tokens": 9}, {"messages": TALK, "max_tokens": 9},
     {"choices": [{"message": {"role": "assistant", "content": "4"}}]}, "4"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "talk", "parameters", "body", "reply", "text"), SAMPLES)
def test_a_samples_request_and_reply(
    name: str, talk: Any, parameters: dict[str, Any], body: Any, reply: Any, text: str
) -> None:
    assert SHAPES[name].request(talk, parameters) == body
    assert SHAPES[name].text(reply) == text


@pytest.mark.parametrize("name", SHAPES)
def test_the_server_understands_it_and_its_reply_is_read(name: str) -> None:
    talk = USER if name == "code-first" else TALK
    call = parse(json.dumps(SHAPES[name].request(talk, {"max_tokens": 9, "temperature": 0.5, "stop": ["x"]})), LIMITS)
    assert call.conversations == [talk]
    assert (call.sampling.max_tokens, call.sampling.temperature, call.stops) == (9, 0.5, ("x",))
    reply = json.loads(json.dumps(call.reply([Answer("vier", "stop", 5, 2)], Heading("1f", "m:1"))))
    assert SHAPES[name].text(reply) == "vier"


def test_a_conversation_does_not_fit_into_one_text() -> None:
    with pytest.raises(ValueError, match="without system prompt"):
        SHAPES["code-first"].request(TALK, {})
