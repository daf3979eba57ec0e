"""The page's server over real HTTP: whom it answers, what it takes, and that a reader who leaves stops the endpoint."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.chat.events import MOST_AT_ONCE
from flow.chat.guard import MAX_BODY, refusal
from flow.chat.request import Wrong, parse_ask, parse_feedback

from .conftest import Server, environment, start_server

USER = [{"role": "user", "content": "My parcel has not come."}]
COUNT = [{"role": "user", "content": "count"}]  # for as long as anybody listens
SECRET = "the word that no log may hold"


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
        yield client


def events(reply: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    frames = [dict(line.split(": ", 1) for line in frame.split("\n")) for frame in reply.text.split("\n\n") if frame]
    return [(frame["event"], json.loads(frame["data"])) for frame in frames]


def test_an_answer_comes_in_pieces_and_ends_with_who_gave_it(server: Server, http: httpx.Client) -> None:
    asked = {"messages": USER, "deployment": "green", "max_tokens": 33}
    reply = http.post("/api/chat", json=asked)
    *pieces, (last, result) = events(reply)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert len(pieces) > 3 and {name for name, _ in pieces} == {"piece"} and last == "result"
    assert "".join(data["text"] for _, data in pieces) == result["answer"] != ""
    assert (result["status"], result["deployment"], result["model"]) == ("ok", "green", "ticket-triage:3")
    deployment, body = server.endpoint.requests[-1]
    assert deployment == "green" and body["messages"] == USER
    assert (body["max_tokens"], body["temperature"]) == (33, 0)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "rebound.example"}, 421),
        ({"host": "127.0.0.1.rebound.example"}, 421),
        ({"host": "127.0.0.1@rebound.example"}, 421),
        ({"origin": "https://elsewhere.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
    ],
)
def test_other_pages_are_kept_out(server: Server, http: httpx.Client, headers: dict[str, str], status: int) -> None:
    before = len(server.endpoint.requests)
    given = {"content-type": "application/json", **headers}
    reply = http.post("/api/chat", content=json.dumps({"messages": USER}), headers=given)
    assert reply.status_code == status
    assert reply.json()["problem"].endswith((".", ")."))
    assert len(server.endpoint.requests) == before


@pytest.mark.parametrize("length", [str(MAX_BODY + 1), "", "-1", "1e3", "²"])
def test_a_body_that_is_announced_too_long_is_not_read(length: str) -> None:
    given = {"host": "localhost", "content-type": "application/json"}
    assert refusal("POST", {**given, "content-length": str(MAX_BODY)}) is None
    assert (refusal("POST", {**given, "content-length": length}) or (0, ""))[0] == 413


@pytest.mark.parametrize("path", ["/", "/chat.js", "/api/settings"])
def test_reading_is_for_our_page_too(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 200
    assert http.get(path, headers={"host": "rebound.example"}).status_code == 421
    assert http.get(path, headers={"origin": "https://elsewhere.example"}).status_code == 403


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=255)))
def test_no_other_host_is_served(host: str) -> None:
    name = host.rsplit(":", 1)[0]
    assert refusal("GET", {"host": host}) is not None or name in ("127.0.0.1", "localhost")


def test_a_body_without_an_announced_length_is_bounded_too(http: httpx.Client) -> None:
    parts = (b" " * 65536 for _ in range(MAX_BODY // 65536 + 2))
    reply = http.post("/api/chat", content=parts, headers={"content-type": "application/json"})
    assert (reply.status_code, "too long" in reply.text or "longer than" in reply.text) == (413, True)


def test_every_reply_carries_the_policy(http: httpx.Client) -> None:
    refused = http.get("/", headers={"host": "rebound.example"})
    for reply in (http.get("/"), http.get("/chat.css"), http.get("/nowhere"), refused):
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert (reply.headers["x-content-type-options"], reply.headers["cache-control"]) == ("nosniff", "no-store")


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"\xff", b"{}", {"messages": []}, {"messages": USER, "uri": "http://127.0.0.1:1/"},
        {"messages": [{"role": "assistant", "content": "a"}]}, {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "root", "content": "a"}]}, {"messages": USER, "deployment": "blue\r\nx: y"},
        {"messages": USER, "max_tokens": True}, {"messages": USER, "max_tokens": 0}, {"messages": USER * 201},
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_sentence(server: Server, http: httpx.Client, body: Any) -> None:
    before = len(server.endpoint.requests)
    content = body if isinstance(body, bytes) else json.dumps(body)
    reply = http.post("/api/chat", content=content, headers={"content-type": "application/json"})
    assert reply.status_code == 400 and reply.json()["problem"].endswith(".")
    assert len(server.endpoint.requests) == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries({}, optional={"role": st.sampled_from(["user", "system"]) | JSON, "content": JSON})
BODY = st.fixed_dictionaries(
    {}, optional={"messages": st.lists(MESSAGE, max_size=3) | JSON, "deployment": JSON, "max_tokens": JSON, "id": JSON}
)


@settings(deadline=None)
@given(st.binary(max_size=40) | BODY.map(json.dumps).map(str.encode))
def test_whatever_is_sent_is_a_conversation_or_a_sentence(body: bytes) -> None:
    for parse in (parse_ask, parse_feedback):
        with contextlib.suppress(Wrong):
            asked = parse(body)
            if parse is parse_ask:
                assert asked.messages[-1]["role"] == "user" and 1 <= asked.decoding["max_tokens"] <= 4096
                json.dumps(asked.messages, ensure_ascii=False).encode()


def test_a_reader_who_leaves_stops_the_endpoint(server: Server, http: httpx.Client) -> None:
    server.endpoint.gone.clear()
    with http.stream("POST", "/api/chat", json={"messages": COUNT}) as reply:
        assert next(reply.iter_text()).startswith("event: piece")
    assert server.endpoint.gone.wait(10), "the endpoint goes on though nobody listens"


def test_too_many_answers_at_once_are_refused_and_places_come_back(server: Server) -> None:
    with contextlib.ExitStack() as held:
        reading = []  # an iterator that nobody holds any more closes its connection
        for _ in range(MOST_AT_ONCE):
            client = held.enter_context(httpx.Client(base_url=server.url, timeout=20, trust_env=False))
            reply = held.enter_context(client.stream("POST", "/api/chat", json={"messages": COUNT}))
            assert reply.status_code == 200
            reading.append(reply.iter_text())
            next(reading[-1])
        refused = httpx.post(f"{server.url}api/chat", json={"messages": USER}, trust_env=False)
        assert (refused.status_code, refused.json()["problem"][:8]) == (429, "Too many")
    until = time.monotonic() + 10
    while httpx.post(f"{server.url}api/chat", json={"messages": USER}, trust_env=False).status_code != 200:
        assert time.monotonic() < until, "the places of readers who left do not come back"
        time.sleep(0.1)


def test_an_opinion_goes_to_who_answered(server: Server, http: httpx.Client) -> None:
    opinion = {"id": "a" * 32, "rating": "down", "deployment": "green"}
    assert http.post("/api/feedback", json=opinion).status_code == 200
    assert server.endpoint.requests[-1] == ("green", {"feedback": {"id": "a" * 32, "rating": "down"}})
    wrong = http.post("/api/feedback", json={**opinion, "rating": "meh"})
    assert wrong.status_code == 400 and "opinion" in wrong.json()["problem"]


def test_ctrl_c_ends_it_in_the_middle_of_an_answer_and_nothing_was_logged(server: Server, tmp_path: Path) -> None:
    own = start_server(tmp_path, server.endpoint)
    try:
        httpx.post(f"{own.url}api/chat", json={"messages": [{"role": "user", "content": SECRET}]}, trust_env=False)
        httpx.post(f"{own.url}api/chat", content=SECRET, trust_env=False)
        with httpx.stream("POST", f"{own.url}api/chat", json={"messages": COUNT}, trust_env=False) as reply:
            reading = reply.iter_text()
            next(reading)
            code, said = own.end()  # the endpoint would go on for as long as anybody listens
    finally:
        own.process.kill()
    assert code == 0
    assert SECRET not in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("uri", "arguments", "says"),
    [
        ("", [], "ENDPOINT_SCORING_URI must be"),
        ("file:///etc/passwd", [], "ENDPOINT_SCORING_URI must be"),
        ("https://e.example/score", ["--live", "nowhere.json"], "nowhere.json is no record"),
        ("https://e.example/score", ["--port", "99999"], "Port 99999 cannot be used"),
        ("https://e.example/score", ["--port", "TAKEN"], "cannot be used"),
    ],
)
def test_a_mistake_at_the_start_is_one_sentence(tmp_path: Path, uri: str, arguments: list[str], says: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = [str(taken.getsockname()[1]) if each == "TAKEN" else each for each in arguments]
        done = subprocess.run(
            [sys.executable, "-m", "chat", *given],
            env=environment(tmp_path, uri), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.startswith("✗ ") and says in done.stderr and done.stderr.count("\n") == 1
