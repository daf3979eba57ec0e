"""The streamed call against a real HTTP server: pieces as they come, and a Result whatever happens on the way."""

import threading
import time

import pytest
from asking import Result, calling, sign_in, stream
from asking.replies import events
from hypothesis import given
from hypothesis import strategies as st

from tests.flow.conftest import DONE, END, USAGE, answering, chunk

ASKED = [{"role": "user", "content": "Where is my parcel?"}]


@pytest.fixture(autouse=True)
def signed_in_and_impatient(monkeypatch, endpoint):
    monkeypatch.setattr(sign_in, "token", lambda: "a-token")
    monkeypatch.setattr(calling, "_wait", lambda _state: 0.0)
    monkeypatch.setenv("ENDPOINT_SCORING_URI", endpoint.uri)
    monkeypatch.delenv("ENDPOINT_DEPLOYMENT", raising=False)


def streamed(**options) -> tuple[list[str], Result]:
    *pieces, last = stream(ASKED, {"temperature": 0}, **options)
    assert isinstance(last, Result) and all(isinstance(piece, str) for piece in pieces)
    return pieces, last


def test_the_pieces_are_the_answer(endpoint):
    headers = {"azureml-model-deployment": "green", "x-model": "phi:7", "x-answer-id": "i"}
    endpoint.replies = [(200, headers, [chunk("{"), chunk("é\u2028"), chunk("}"), END, USAGE, DONE])]
    pieces, result = streamed(deployment="green")
    assert pieces == ["{", "é\u2028", "}"]
    assert (result.answer, result.status, result.tokens, result.finish_reason) == ("{é\u2028}", "ok", 12, "stop")
    assert (result.deployment, result.model, result.answer_id) == ("green", "phi:7", "i") and result.latency_ms > 0
    sent, body = endpoint.requests[0]
    assert sent["azureml-model-deployment"] == "green" and body["stream"] is True and body["temperature"] == 0


@given(st.data())
def test_wherever_the_bytes_are_cut_the_events_are_the_same(data):
    texts = data.draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=4))
    raw = b"".join(chunk(text) for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert list(events(iter(parts))) == list(events(iter([raw])))
    assert len(list(events(iter([raw])))) == len(texts)


def test_a_first_piece_is_there_before_the_last_is_sent(endpoint):
    endpoint.replies, endpoint.pause = [(200, {}, [chunk("a"), chunk("b"), END])], 0.2
    pieces = stream(ASKED)
    assert next(pieces) == "a" and endpoint.sent < 3
    assert [*pieces][-1].status == "ok"


def test_log_probabilities_of_all_chunks_are_one_list(endpoint):
    told = b'data: {"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-0.5}]}}]}\n\n'
    endpoint.replies = [(200, {}, [told, told, END])]
    assert streamed()[1].logprobs == "[-0.5, -0.5]"


UNKNOWN = {"error": {"code": 400, "message": 'The parameter "stream" with the value true is not offered.'}}


@pytest.mark.parametrize(
    "first",
    [answering("whole"), (400, {}, UNKNOWN), (424, {"ms-azureml-model-error-statuscode": "400"}, UNKNOWN)],
)
def test_an_endpoint_that_does_not_stream_gives_one_piece(endpoint, first):
    endpoint.replies = [first, answering("whole")]
    pieces, result = streamed()
    assert pieces == ["whole"] and (result.answer, result.status, result.tokens) == ("whole", "ok", 12)
    assert "stream" not in endpoint.requests[-1][1] or first[0] == 200


def test_an_endpoint_that_is_busy_is_asked_again_before_the_first_piece(endpoint):
    endpoint.replies = [(429, {}, "later"), (503, {}, "later"), (200, {}, [chunk("a"), END])]
    assert streamed()[0] == ["a"] and len(endpoint.requests) == 3


@pytest.mark.parametrize("pieces", [[chunk("a")], [chunk("a"), DONE], [chunk("a"), b'data: {"choices": [{"del'], []])
def test_a_cut_stream_is_no_answer_and_not_asked_again(endpoint, pieces):
    endpoint.replies = [(200, {}, pieces), answering("another")]
    _, result = streamed()
    assert (result.status, result.answer, len(endpoint.requests)) == ("infra_error", "", 1) and result.detail


def test_a_connection_that_breaks_is_a_cut_stream(endpoint):
    endpoint.replies = [(200, {"content-length": "9999"}, [chunk("a")])]
    pieces, result = streamed()
    assert (pieces, result.status, len(endpoint.requests)) == (["a"], "infra_error", 1)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (b'data: {"error": {"code": "content_filter", "message": "no"}}\n\n', "blocked"),
        (b'data: {"error": {"code": 500, "message": "boom"}}\n\n', "model_error"),
        (b'data: {"error": {"code": 503, "message": "later"}}\n\n', "infra_error"),
        (b'data: {"error": {"message": "who knows"}}\n\n', "model_error"),
        (chunk(finish_reason="content_filter"), "blocked"),
        (b"data: not JSON\n\n", "infra_error"),
        (b"data: [1]\n\n", "infra_error"),
        (b"data: \xff\n\n", "infra_error"),
        (b'data: {"choices": [{"delta": {"content": 7}}]}\n\n', "infra_error"),
        (b'data: {"choices": 7}\n\n', "infra_error"),
    ],
)
def test_what_goes_wrong_inside_a_stream_is_a_result(endpoint, event, status):
    endpoint.replies = [(200, {}, [chunk("a"), event]), answering("another")]
    pieces, result = streamed()
    assert (pieces, result.status, result.answer, len(endpoint.requests)) == (["a"], status, "", 1) and result.detail


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ((400, {}, {"error": {"code": "content_filter", "message": "no stream of mine"}}), "blocked"),
        ((400, {}, "bad"), "model_error"),
        ((401, {}, "no"), "infra_error"),
    ],
)
def test_a_refusal_is_the_same_as_without_a_stream(endpoint, reply, status):
    endpoint.replies = [reply]
    assert streamed()[1].status == status and len(endpoint.requests) == 1


def test_who_stops_listening_stops_the_endpoint(endpoint):
    endpoint.replies, endpoint.pause = [(200, {}, [chunk("a")] * 500)], 0.01
    pieces = stream(ASKED)
    next(pieces)
    pieces.close()
    time.sleep(0.5)
    sent = endpoint.sent
    time.sleep(0.1)
    assert endpoint.sent == sent < 100


def test_an_endpoint_that_drips_for_ever_is_given_up(endpoint, monkeypatch):
    monkeypatch.setattr("asking.streaming.LONGEST", 0.2)
    endpoint.replies, endpoint.pause = [(200, {}, [chunk("a")] * 500)], 0.02
    _, result = streamed()
    assert result.status == "infra_error" and "longer than" in result.detail
    assert endpoint.sent < 250, "it listened to the end"


def test_a_wrong_input_is_said_at_once(monkeypatch):
    with pytest.raises(ValueError, match="no messages"):
        stream([])
    monkeypatch.delenv("ENDPOINT_SCORING_URI")
    with pytest.raises(ValueError, match="ENDPOINT_SCORING_URI"):
        stream(ASKED)


def test_many_streams_at_once_do_not_mix(endpoint):
    endpoint.replies, endpoint.pause = [(200, {}, [chunk("a"), chunk("b"), END])], 0.01
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(streamed()[1].answer)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["ab"] * 8
