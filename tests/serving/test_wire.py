"""Request shapes: every one gets its own reply, and whatever else comes in is one sentence, never an exception."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import Answer, BadRequest, Limits, parse

LIMITS = Limits(default_tokens=50, max_tokens=100, max_characters=1000)
USER = {"role": "user", "content": "hi"}
TALK = [{"role": "system", "content": "be brief"}, USER]
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
        assert call.reply(ANSWERS[: len(conversations)], "m") == reply


def test_the_openai_reply() -> None:
    call = parse(json.dumps({"messages": TALK, "max_tokens": 96, "temperature": 0}), LIMITS)
    assert call.reply(ANSWERS[:1], "m") == {
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "one"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }


def test_log_probabilities_are_told_to_who_asks_in_openais_way() -> None:
    call = parse(json.dumps({"messages": TALK, "logprobs": True, "top_logprobs": 0}), LIMITS)
    assert call.sampling.logprobs
    (choice,) = call.reply([Answer("one", "stop", 5, 2, [("o", -0.5), ("ne", -1.0)])], "m")["choices"]
    assert [(each["token"], each["logprob"]) for each in choice["logprobs"]["content"]] == [("o", -0.5), ("ne", -1.0)]
    assert not parse(json.dumps({"messages": TALK, "logprobs": False}), LIMITS).sampling.logprobs


@pytest.mark.parametrize(
    ("parameters", "temperature"),
    [({}, 0), ({"do_sample": True}, 1), ({"do_sample": False, "temperature": 0.6}, 0), ({"temperature": 0.6}, 0.6)],
)
def test_how_sampling_is_asked_for(parameters: dict[str, Any], temperature: float) -> None:
    assert parse(json.dumps({"input_data": ["a"], "params": parameters}), LIMITS).sampling.temperature == temperature


BAD: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "not JSON"),
    "empty body": ("", "not JSON"),
    "too deep": ("[" * 100_000, "not JSON"),
    "a list": ("[]", "not list"),
    "nothing known": ('{"prompt": "hi"}', "['prompt']"),
    "both shapes": ('{"messages": [], "input_data": []}', "either"),
    "extra key": ('{"input_data": ["a"], "parameters": {}}', "['parameters']"),
    "no messages": ('{"messages": []}', "at least one"),
    "messages not a list": ('{"messages": "hi"}', "must be a list"),
    "message not an object": ('{"messages": ["hi"]}', "entry 0"),
    "unknown role": ('{"messages": [{"role": "tool", "content": "a"}]}', "entry 0"),
    "content not text": ('{"messages": [{"role": "user", "content": 3}]}', "entry 0"),
    "picture": ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "entry 0"),
    "half a surrogate": ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
    "gold answer left in": ('{"messages": [{"role": "assistant", "content": "a"}]}', "of the user"),
    "blank": ('{"input_data": [" "]}', "non-empty"),
    "text not text": ('{"input_data": [1]}', "input_data[0]"),
    "input_data a text": ('{"input_data": "hi"}', "must be an object"),
    "no input_string": ('{"input_data": {}}', "input_string"),
    "params a list": ('{"input_data": ["a"], "params": []}', "must be an object"),
    "mixed conversations": ('{"input_data": {"input_string": [[{"role": "user", "content": "a"}], "b"]}}', "[1]"),
    "too many": (json.dumps({"input_data": ["a"] * 65}), "65"),
    "max_tokens 0": ('{"input_data": ["a"], "params": {"max_tokens": 0}}', "from 1 to 100"),
    "max_tokens too many": ('{"input_data": ["a"], "params": {"max_tokens": 101}}', "from 1 to 100"),
    "max_tokens true": ('{"input_data": ["a"], "params": {"max_tokens": true}}', "whole number"),
    "temperature NaN": ('{"input_data": ["a"], "params": {"temperature": NaN}}', "from 0 to 2"),
    "temperature text": ('{"input_data": ["a"], "params": {"temperature": "hot"}}', "a number"),
    "do_sample": ('{"input_data": ["a"], "params": {"do_sample": "yes"}}', "true or false"),
    "logprobs where no reply has them": ('{"input_data": ["a"], "params": {"logprobs": true}}', '"logprobs"'),
    "logprobs a number": ('{"messages": [{"role": "user", "content": "a"}], "logprobs": 5}', '"logprobs"'),
    "stream": ('{"messages": [{"role": "user", "content": "a"}], "stream": true}', '"stream"'),
    "unknown parameter": ('{"input_data": ["a"], "params": {"temprature": 1}}', '"temprature"'),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_sentence(name: str) -> None:
    body, part = BAD[name]
    with pytest.raises(BadRequest) as caught:
        parse(body, LIMITS)
    assert caught.value.status == 400
    sentence = str(caught.value)
    assert part in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 300


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
