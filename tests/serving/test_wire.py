"""Request shapes: every one gets its own reply, and whatever else comes in is one sentence, never an exception."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replies import Answer, Heading
from wire import BadRequest, Limits, parse

LIMITS = Limits(default_tokens=50, max_tokens=100, max_characters=1000)
USER = {"role": "user", "content": "hi"}
TALK = [{"role": "system", "content": "be brief"}, USER]
HEAD = Heading("1f", "m:1")
ANSWERS = [Answer("one", "stop", 5, 2), Answer("two", "length", 6, 3)]

SHAPES: dict[str, tuple[dict[str, Any], list[Any], Any]] = {
    "code-first": ({"input_data": ["hi", "ho"], "params": {"max_new_tokens": 9, "return_full_text": True}},
                   [[USER], [{"role": "user", "content": "ho"}]], ["one", "two"]),
    "foundry": ({"input_data": {"input_string": TALK, "parameters": {"max_new_tokens": 9}}},
                [TALK], {"output": "one"}),
    "ml sdk": ({"input_data": {"input_string": [TALK, [USER]], "parameters": {"max_new_tokens": 9}}, "params": {}},
               [TALK, [USER]], ["one", "two"]),
    "parts": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "max_completion_tokens": 9,
               "stream": False, "n": 1, "stop": None, "model": "x"}, [[USER]], None),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_has_its_reply(name: str) -> None:
    body, conversations, reply = SHAPES[name]
    call = parse(json.dumps(body), LIMITS)
    assert call.conversations == conversations
    assert call.sampling.max_tokens == 9
    if reply is not None:
        assert call.reply(ANSWERS[: len(conversations)], HEAD) == reply


def test_the_openai_reply() -> None:
    call = parse(json.dumps({"messages": TALK, "max_tokens": 96, "temperature": 0}), LIMITS)
    reply = call.reply(ANSWERS[:1], HEAD)
    assert isinstance(reply.pop("created"), int)
    assert reply == {
        "id": "chatcmpl-1f",
        "object": "chat.completion",
        "model": "m:1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "one"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }


def test_log_probabilities_are_told_to_who_asks_in_openais_way() -> None:
    call = parse(json.dumps({"messages": TALK, "logprobs": True, "top_logprobs": 0}), LIMITS)
    assert call.sampling.logprobs
    (choice,) = call.reply([Answer("one", "stop", 5, 2, [("o", -0.5), ("ne", -1.0)])], HEAD)["choices"]
    assert [(each["token"], each["logprob"]) for each in choice["logprobs"]["content"]] == [("o", -0.5), ("ne", -1.0)]
    assert not parse(json.dumps({"messages": TALK, "logprobs": False}), LIMITS).sampling.logprobs


@pytest.mark.parametrize(
    ("parameters", "temperature"),
    [({}, 0), ({"do_sample": True}, 1), ({"do_sample": False, "temperature": 0.6}, 0), ({"temperature": 0.6}, 0.6)],
)
def test_how_sampling_is_asked_for(parameters: dict[str, Any], temperature: float) -> None:
    assert parse(json.dumps({"input_data": ["a"], "params": parameters}), LIMITS).sampling.temperature == temperature


@pytest.mark.parametrize(
    ("more", "stream", "usage"),
    [({}, False, False), ({"stream": True}, True, False), ({"stream": False, "stream_options": None}, False, False),
     ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
     ({"stream": True, "stream_options": {}}, True, False)],
)  # fmt: skip
def test_how_a_stream_is_asked_for(more: dict[str, Any], stream: bool, usage: bool) -> None:
    call = parse(json.dumps({"messages": TALK, **more}), LIMITS)
    assert (call.stream, call.usage) == (stream, usage)


@pytest.mark.parametrize(
    ("stop", "stops"), [(None, ()), ([], ()), ("a", ("a",)), (["a", "bc", "d", "é"], ("a", "bc", "d", "é"))]
)
def test_stop_sequences_are_taken_in_every_shape(stop: Any, stops: tuple[str, ...]) -> None:
    assert parse(json.dumps({"messages": TALK, "stop": stop}), LIMITS).stops == stops
    assert parse(json.dumps({"input_data": ["a"], "params": {"stop": stop}}), LIMITS).stops == stops


def asked(**more: Any) -> str:
    return json.dumps({"messages": [USER], **more})


# name: (body, a part of the sentence, the field)
BAD: dict[str, tuple[str, str, str]] = {
    "no JSON": ("{", "not JSON", "body"),
    "empty body": ("", "not JSON", "body"),
    "too deep": ("[" * 100_000, "not JSON", "body"),
    "a list": ("[]", "not a list", "body"),
    "nothing known": ('{"prompt": "hi"}', "['prompt']", "body"),
    "both shapes": ('{"messages": [], "input_data": []}', "either", "body"),
    "extra key": ('{"input_data": ["a"], "parameters": {}}', "['parameters']", "parameters"),
    "no messages": ('{"messages": []}', "at least one", "messages"),
    "messages not a list": ('{"messages": "hi"}', "must be a list", "messages"),
    "message not an object": ('{"messages": ["hi"]}', '"messages[0]" must be an object', "messages[0]"),
    "unknown role": ('{"messages": [{"role": "tool", "content": "a"}]}', "one of system", "messages[0].role"),
    "no role": ('{"messages": [{"content": "a"}]}', "one of system", "messages[0].role"),
    "content not text": ('{"messages": [{"role": "user", "content": 3}]}', "must be text", "messages[0].content"),
    "picture": ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "text", "messages[0].content"),
    "no text": ('{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "text", "messages[0].content"),
    "half a surrogate": ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate", "messages[0].content"),
    "gold answer left in": ('{"messages": [{"role": "assistant", "content": "a"}]}', "of the user", "messages[0]"),
    "blank": ('{"input_data": [" "]}', "non-empty", "input_data[0][0]"),
    "text not text": ('{"input_data": ["a", 1]}', "must be text, not a number", "input_data[1]"),
    "input_data a text": ('{"input_data": "hi"}', "must be an object", "input_data"),
    "no input_string": ('{"input_data": {}}', "input_string", "input_data"),
    "params a list": ('{"input_data": ["a"], "params": []}', "must be an object", "params"),
    "mixed conversations": (
        '{"input_data": {"input_string": [[{"role": "user", "content": "a"}], "b"]}}', "a list",
        "input_data.input_string[1]",
    ),
    "too many": (json.dumps({"input_data": ["a"] * 65}), "65", "input_data"),
    "max_tokens 0": ('{"input_data": ["a"], "params": {"max_tokens": 0}}', "from 1 to 100", "max_tokens"),
    "max_tokens too many": ('{"input_data": ["a"], "params": {"max_tokens": 101}}', "from 1 to 100", "max_tokens"),
    "max_tokens true": ('{"input_data": ["a"], "params": {"max_tokens": true}}', "whole number", "max_tokens"),
    "max_tokens twice": (
        '{"input_data": ["a"], "params": {"max_tokens": 5, "max_new_tokens": 6}}', "again", "max_new_tokens"
    ),
    "temperature NaN": ('{"input_data": ["a"], "params": {"temperature": NaN}}', "from 0 to 2", "temperature"),
    "temperature text": ('{"input_data": ["a"], "params": {"temperature": "hot"}}', "a number", "temperature"),
    "do_sample": ('{"input_data": ["a"], "params": {"do_sample": "yes"}}', "true or false", "do_sample"),
    "logprobs for texts": ('{"input_data": ["a"], "params": {"logprobs": true}}', '"logprobs"', "logprobs"),
    "logprobs a number": (asked(logprobs=5), "true or false", "logprobs"),
    "stream where no reply can": ('{"input_data": ["a"], "params": {"stream": true}}', '"stream"', "stream"),
    "stream a number": (asked(stream=1), "true or false", "stream"),
    "stream_options without stream": (asked(stream_options={"include_usage": True}), "stream", "stream_options"),
    "stream_options a list": (asked(stream=True, stream_options=[]), "an object", "stream_options"),
    "unknown option": (asked(stream=True, stream_options={"x": 1}), "include_usage", "stream_options.x"),
    "option not a flag": (asked(stream=True, stream_options={"include_usage": 1}), "true or false", "include_usage"),
    "n": (asked(n=2), '"n"', "n"),
    "n true": (asked(n=True), '"n"', "n"),
    "five stops": (asked(stop=["a"] * 5), "up to 4", "stop"),
    "empty stop": (asked(stop=""), "1 to 200", "stop"),
    "long stop": (asked(stop=["a" * 201]), "1 to 200", "stop"),
    "stop not text": (asked(stop=[1]), "1 to 200", "stop"),
    "stop half a surrogate": (asked(stop="\udc00"), "surrogate", "stop"),
    "unknown parameter": ('{"input_data": ["a"], "params": {"temprature": 1}}', '"temprature"', "temprature"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_sentence(name: str) -> None:
    body, part, field = BAD[name]
    with pytest.raises(BadRequest) as caught:
        parse(body, LIMITS)
    assert caught.value.status == 400
    assert caught.value.field == field
    sentence = str(caught.value)
    assert part in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 350


def test_an_overlong_text_is_refused_before_it_is_tokenized() -> None:
    with pytest.raises(BadRequest, match="1001 characters; at most 1000") as caught:
        parse(json.dumps({"input_data": ["a" * 1001]}), LIMITS)
    assert caught.value.status == 413


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["messages", "input_data", "input_string", "parameters", "params", "role", "content", "n"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(JSON)
def test_no_json_at_all_raises_anything_else(body: Any) -> None:
    for wrapped in (body, {"messages": body}, {"input_data": body}, {"input_data": {"input_string": body}}):
        try:
            call = parse(json.dumps(wrapped), LIMITS)
        except BadRequest:
            continue
        assert call.conversations
