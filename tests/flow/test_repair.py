"""The one retry for structured output: what it asks, what it keeps, and that it never makes an answer up."""

import json

import pytest
from asking.repair import check_schema, problem, repaired
from asking.result import Result
from hypothesis import given
from hypothesis import strategies as st

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
ASKED = [{"role": "user", "content": "How many?"}]


def run(first: Result, *then: Result, schema=SCHEMA):
    seen, left = [], list(then)

    def ask(messages):
        seen.append(messages)
        return left.pop(0)

    return repaired(ASKED, first, schema, ask), seen


def ok(answer, latency=10.0, tokens=5):
    return Result(answer, "ok", latency, tokens)


def test_a_valid_answer_is_left_alone():
    result, seen = run(ok('{"n": 3}'))
    assert result == ok('{"n": 3}') and seen == []


def test_without_a_schema_every_answer_is_left_alone():
    result, seen = run(ok("words"), schema={})
    assert result == ok("words") and seen == []


def test_a_wrong_answer_is_asked_for_once_more_with_what_is_wrong():
    result, (again,) = run(ok('{"n": "three"}'), ok('{"n": 3}', 7.5, 9))
    assert (result.answer, result.status, result.repair) == ('{"n": 3}', "ok", "repaired")
    assert (result.latency_ms, result.tokens, result.attempts) == (17.5, 14, ((10.0, 5), (7.5, 9)))
    assert again[:1] == ASKED and again[1] == {"role": "assistant", "content": '{"n": "three"}'}
    assert "in n: 'three' is not of type 'integer'" in again[2]["content"]


def test_a_second_wrong_answer_is_the_models_and_there_is_no_third():
    result, seen = run(ok("words"), ok("more words"))
    assert (result.answer, result.status, result.repair, len(seen)) == ("more words", "ok", "failed", 1)
    assert "still wrong: it is not JSON" in result.detail and result.tokens == 10


@pytest.mark.parametrize("status", ["infra_error", "model_error"])
def test_a_lost_second_try_leaves_the_first_answer(status):
    result, _ = run(ok("words"), Result("", status, detail="gone"))
    assert (result.answer, result.status, result.repair) == ("words", "ok", "failed") and "gone" in result.detail


def test_a_blocked_second_answer_is_blocked():
    result, _ = run(ok("words"), Result("", "blocked", 5.0, 2, detail="no"))
    assert (result.answer, result.status, result.repair, result.tokens) == ("", "blocked", "failed", 7)


@pytest.mark.parametrize("status", ["infra_error", "model_error", "blocked"])
def test_what_is_no_answer_is_not_repaired(status):
    result, seen = run(Result("", status))
    assert result == Result("", status) and seen == []


@pytest.mark.parametrize("schema", [{"type": "objekt"}, {"required": 3}])
def test_a_wrong_schema_is_said(schema):
    with pytest.raises(ValueError, match="answer_schema is no JSON schema"):
        check_schema(schema)


@pytest.mark.parametrize("answer", ["", "NaN", '{"n": NaN}', "[" * 100_000, '{"n": 3} and more', "```json\n{}\n```"])
def test_what_is_not_json_is_not_valid(answer):
    assert problem(answer, SCHEMA) == "it is not JSON"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_valid_means_json_of_the_schema(value):
    is_one = isinstance(value, dict) and set(value) == {"n"} and type(value["n"]) is int
    assert (problem(json.dumps(value), SCHEMA) == "") == is_one


def test_a_long_wrong_answer_is_shown_in_part():
    _, (again,) = run(ok("x" * 100_000), ok('{"n": 1}'))
    assert len(again[1]["content"]) == 2000
