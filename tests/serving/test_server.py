"""The real scoring server (gunicorn with threads) around score.py: every request shape at once, streams, mistakes."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from digest import of_folder
from real_server import SERVING, events, post, serve
from tiny_models import make_tokenizer

pytestmark = pytest.mark.slow
USER = [{"role": "user", "content": "the hat"}]
LONG = [{"role": "user", "content": "a" * 2000}]
HUGE = [{"role": "user", "content": "a" * 1_000_000}]
# name: (body, status, what the reply must be)
REQUESTS: dict[str, tuple[Any, int, Any]] = {
    "openai": ({"messages": USER, "max_tokens": 12}, 200, lambda r: r["choices"][0]["message"]["role"] == "assistant"),
    "openai with everything": (
        {"messages": USER, "max_tokens": 12, "temperature": 0.5, "top_p": 0.9, "seed": 3, "n": 1, "stop": ["q"],
         "logprobs": True, "user": "me"},
        200, lambda r: r["choices"][0]["finish_reason"] in ("stop", "length"),
    ),
    "code-first": ({"input_data": ["the hat"], "params": {"max_tokens": 12}}, 200, lambda r: len(r) == 1),
    "foundry": ({"input_data": {"input_string": USER, "parameters": {}}}, 200, lambda r: set(r) == {"output"}),
    "ml sdk": ({"input_data": {"input_string": [USER, USER]}, "params": {}}, 200, lambda r: r[0] == r[1]),
    "not JSON": (b"{", 400, lambda r: r["error"]["param"] == "body"),
    "not UTF-8": (b"\xff", 400, lambda r: "UTF-8" in r["message"]),
    "no shape": ({}, 400, lambda r: "messages" in r["error"]["message"]),
    "no role": ({"messages": [{"content": "a"}]}, 400, lambda r: r["error"]["param"] == "messages[0].role"),
    "too long": ({"messages": LONG}, 413, lambda r: "tokens" in r["error"]["message"]),
    "a megabyte": ({"messages": HUGE}, 413, lambda r: "characters" in r["error"]["message"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def url(model_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log"
    with serve(model_root, log, MODEL_DIGEST=of_folder(model_root / "tiny")) as server:
        yield server.url
        assert "the hat" not in log.read_text(), "a prompt was logged"


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def _same(body: Any) -> Any:
    return {key: value for key, value in body.items() if key not in ("id", "created")} if "choices" in body else body


def test_all_shapes_and_mistakes_at_once(client: httpx.Client, model_root: Path) -> None:
    names = list(REQUESTS) * 5
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda name: post(client, REQUESTS[name][0]), names))
    seen: dict[str, Any] = {}
    for name, reply in zip(names, replies, strict=True):
        _, status, right = REQUESTS[name]
        assert reply.status_code == status, reply.text
        body = reply.json()
        assert right(body), body
        assert seen.setdefault(name, _same(body)) == _same(body), "the answer depends on who else was asking"
        if name != "not UTF-8":  # the server itself answers that
            assert reply.headers["x-model"] == ":".join(model_root.parts[-2:])
            assert reply.headers["x-model-digest"] == of_folder(model_root / "tiny")
    assert seen["code-first"] == [seen["openai"]["choices"][0]["message"]["content"]]


def test_headers_tell_what_the_answer_took(client: httpx.Client) -> None:
    reply = post(client, {"messages": USER, "max_tokens": 12})
    usage, headers = reply.json()["usage"], reply.headers
    assert reply.json()["id"] == f"chatcmpl-{headers['x-answer-id']}"
    assert int(headers["x-prompt-tokens"]) == usage["prompt_tokens"]
    assert int(headers["x-completion-tokens"]) == usage["completion_tokens"] > 0
    took = float(headers["x-generation-ms"]), float(headers["x-queue-ms"])
    assert took[0] > 0
    assert 0 <= sum(took) <= reply.elapsed.total_seconds() * 1000
    both = post(client, {"input_data": {"input_string": [USER, USER]}, "params": {"max_tokens": 12}}).headers
    assert int(both["x-completion-tokens"]) == 2 * usage["completion_tokens"]


@pytest.mark.parametrize(
    "more", [{}, {"stop": ["é", "a", "X"]}, {"temperature": 1.0, "seed": 5}, {"logprobs": True}, {"max_tokens": 1}]
)
def test_a_stream_says_what_a_plain_answer_says(client: httpx.Client, more: dict[str, Any]) -> None:
    body = {"messages": USER, "max_tokens": 40, **more}
    plain = post(client, body).json()
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    with client.stream("POST", "/score", json=streamed) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert {"x-answer-id", "x-model", "x-model-digest", "x-prompt-tokens", "x-queue-ms"} <= set(reply.headers)
        *chunks, done = events(reply.iter_lines())
    assert done == "[DONE]"
    *chunks, counts = chunks
    assert (counts["choices"], counts["usage"]) == ([], plain["usage"])
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    message = plain["choices"][0]["message"]["content"]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == message
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + [
        plain["choices"][0]["finish_reason"]
    ]
    told = [each for choice in choices for each in (choice.get("logprobs") or {"content": []})["content"]]
    wanted = plain["choices"][0].get("logprobs", {"content": []})["content"]
    assert [each["token"] for each in told] == [each["token"] for each in wanted]
    assert [each["logprob"] for each in told] == pytest.approx([each["logprob"] for each in wanted], abs=0.05)
    assert {chunk["id"] for chunk in chunks} == {f"chatcmpl-{reply.headers['x-answer-id']}"}
    if len(message) > 10:
        assert len(choices) > 4, "it came in one piece"


def test_an_answer_ends_before_a_stop_sequence(client: httpx.Client) -> None:
    whole = post(client, {"messages": USER, "max_tokens": 40}).json()["choices"][0]["message"]["content"]
    stop = whole[12:14]
    reply = post(client, {"messages": USER, "max_tokens": 40, "stop": ["never said", stop]}).json()
    choice = reply["choices"][0]
    assert choice["message"]["content"] == whole[: whole.index(stop)]
    assert choice["finish_reason"] == "stop"
    tokens = make_tokenizer()(whole[: whole.index(stop) + len(stop)], add_special_tokens=False)["input_ids"]
    assert abs(reply["usage"]["completion_tokens"] - len(tokens)) <= 2


@pytest.mark.parametrize(
    ("more", "status", "field"),
    [({"stream": 1}, 400, "stream"), ({"stop": [""]}, 400, "stop"), ({"messages": LONG}, 413, "messages")],
)
def test_a_mistake_in_a_stream_is_no_stream(
    client: httpx.Client, more: dict[str, Any], status: int, field: str
) -> None:
    reply = post(client, {"messages": USER, "stream": True, **more})
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, field)


@pytest.mark.parametrize("version", ["", "?version=2", "?version=3", "?version=3.1"])
def test_the_description_of_the_route_is_ours(client: httpx.Client, version: str) -> None:
    told = client.get(f"/swagger.json{version}").json()
    assert told["paths"]["/score"]["post"]["operationId"] == "ask"


def test_the_description_holds_for_requests_and_replies(client: httpx.Client) -> None:
    told = client.get("/swagger.json?version=3").json()
    newer = client.get("/swagger.json?version=3.1").json()
    assert newer == {**told, "openapi": newer["openapi"]}
    responses = told["paths"]["/score"]["post"]["responses"]

    def fits(name: str, value: Any) -> bool:
        schema = {"$ref": f"#/components/schemas/{name}", "components": told["components"]}
        return jsonschema.Draft202012Validator(schema).is_valid(value)

    for name, (body, status, _) in REQUESTS.items():
        reply = post(client, body)
        assert str(status) in responses, "a status that the description does not have"
        if name == "not UTF-8":
            continue
        assert fits("Answer" if status == 200 else "Refusal", reply.json()), name
        assert not fits("Refusal" if status == 200 else "Answer", reply.json()), name
        if isinstance(body, dict):
            assert fits("Request", body) == (status in (200, 413)), name
    with client.stream("POST", "/score", json={"messages": USER, "stream": True}) as reply:
        assert all(fits("Event", event) for event in events(reply.iter_lines()) if event != "[DONE]")


def test_swagger_2_holds_for_requests(client: httpx.Client) -> None:
    told = client.get("/swagger.json").json()
    (body,) = told["paths"]["/score"]["post"]["parameters"]
    valid = jsonschema.Draft202012Validator({**body["schema"], "definitions": told["definitions"]}).is_valid
    for name, (sent, status, _) in REQUESTS.items():
        if isinstance(sent, dict):
            assert valid(sent) or status == 400, name
    assert not valid({"messages": "a"})
    assert json.loads((SERVING / "swagger.json").read_text()) == told
