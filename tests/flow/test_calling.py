"""The call against a real HTTP server: what it sends, what it calls a failure and whose, and when it tries again."""

import socket
import time
from email.utils import formatdate

import pytest
from asking import ask as asked
from asking import calling, sign_in
from asking.result import NoAnswer
from asking.statuses import wait_asked
from hypothesis import given
from hypothesis import strategies as st
from tenacity import RetryCallState, Retrying

WAIT = calling._wait


@pytest.fixture(autouse=True)
def signed_in_and_impatient(monkeypatch, endpoint):
    monkeypatch.setattr(sign_in, "token", lambda: "a-token")
    monkeypatch.setattr(calling, "_wait", lambda _state: 0.0)
    monkeypatch.setattr(sign_in, "_refused", [])
    monkeypatch.setenv("ENDPOINT_SCORING_URI", endpoint.uri)
    monkeypatch.delenv("ENDPOINT_DEPLOYMENT", raising=False)


def ask(text="Where is my parcel?", **options):
    return asked([{"role": "system", "content": "S"}, {"role": "user", "content": text}], **options)


def ok(text):
    choice = {"message": {"role": "assistant", "content": text}}
    return 200, {}, {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}


def test_it_posts_the_conversation_with_a_token(endpoint, monkeypatch):
    monkeypatch.setenv("ENDPOINT_DEPLOYMENT", "green")
    endpoint.replies = [ok('{"a":1}')]
    result = ask()
    headers, body = endpoint.requests[0]
    assert headers["authorization"] == "Bearer a-token" and headers["azureml-model-deployment"] == "green"
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert set(body) == {"messages", "user"}, "how to decode is the flow's to say, not the call's"
    assert body["user"] == "release-train", "a request to one colour is no customer's"
    assert (result.answer, result.status, result.tokens, result.detail) == ('{"a":1}', "ok", 12, "")
    assert result.latency_ms > 0


def test_how_to_decode_is_sent_as_it_is_given_and_cannot_replace_the_conversation(endpoint):
    ask(decoding={"temperature": 0.7, "max_tokens": 5, "top_p": 0.9, "messages": []})
    body = endpoint.requests[0][1]
    assert body.pop("messages")[-1]["content"] == "Where is my parcel?"
    assert body == {"temperature": 0.7, "max_tokens": 5, "top_p": 0.9}


def test_without_a_deployment_the_traffic_decides(endpoint):
    ask()
    headers, body = endpoint.requests[0]
    assert "azureml-model-deployment" not in headers and "user" not in body


def test_a_missing_uri_is_said(monkeypatch):
    monkeypatch.delenv("ENDPOINT_SCORING_URI")
    with pytest.raises(ValueError, match="ENDPOINT_SCORING_URI is not set"):
        ask()


@pytest.mark.parametrize(
    "reply",
    [
        (424, {"ms-azureml-model-error-statuscode": "500"}, "boom"),
        (424, {}, "boom"),
        (400, {}, "bad"),
        (413, {}, "too long"),
        (200, {}, "not JSON"),
        (200, {}, {"choices": []}),
        (200, {}, {"choices": [{"message": {"content": None}}]}),
        (200, {}, [1]),
    ],
)
def test_the_models_failure_is_never_asked_again(endpoint, reply):
    endpoint.replies = [reply, ok("{}")]
    result = ask()
    assert (result.status, result.answer) == ("model_error", "") and result.detail
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [(status, {}, "later") for status in (408, 429, 502, 503, 504)]
    + [(424, {"ms-azureml-model-error-statuscode": busy}, "full") for busy in ("429", "503")]
    + [(0, {}, "")],
)
def test_the_infrastructures_failure_is_asked_again(endpoint, reply):
    endpoint.replies = [reply, reply, ok("{}")]
    assert ask().status == "ok"
    assert len(endpoint.requests) == 3


def test_tries_are_bounded(endpoint):
    endpoint.replies = [(503, {}, "down")]
    result = ask()
    assert (result.status, result.answer) == ("infra_error", "") and "503" in result.detail
    assert len(endpoint.requests) == calling.ATTEMPTS


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_waiting_does_not_mend_is_not_asked_again(endpoint, status):
    endpoint.replies = [(status, {}, "no")]
    assert ask().status == "infra_error"
    assert len(endpoint.requests) == 1


def test_no_connection_is_infrastructure(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ENDPOINT_SCORING_URI", f"http://127.0.0.1:{unused.getsockname()[1]}/score")
        result = ask()
    assert result.status == "infra_error" and "ConnectError" in result.detail


def test_silence_is_infrastructure(monkeypatch):
    with socket.socket() as silent:  # accepts and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("ENDPOINT_SCORING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}/score")
        monkeypatch.setenv("ENDPOINT_TIMEOUT", "0.05")
        result = ask()
    assert result.status == "infra_error" and "ReadTimeout" in result.detail


PAGE = """DefaultAzureCredential failed to retrieve a token from the included credentials.
Attempted credentials:
\tEnvironmentCredential: EnvironmentCredential authentication unavailable.{more}
\tAzureCliCredential: Azure CLI not found on path"""


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("not signed in\nmore", "not signed in"),
        (PAGE.format(more=""), "run `az login`"),
        (PAGE.format(more="\n\tWorkloadIdentityCredential: AADSTS700024: Too late. Trace"), "AADSTS700024: Too late"),
    ],
)
def test_no_token_is_infrastructure_and_is_asked_for_once(monkeypatch, endpoint, page, said):
    from azure.core.exceptions import ClientAuthenticationError

    calls = []

    def refuse():
        calls.append(1)
        raise ClientAuthenticationError(page)

    monkeypatch.undo()
    monkeypatch.setattr(sign_in, "_refused", [])
    monkeypatch.setenv("ENDPOINT_SCORING_URI", endpoint.uri)
    monkeypatch.setattr(sign_in, "_provider", lambda: refuse)
    results = [ask() for _ in range(3)]
    assert {result.status for result in results} == {"infra_error"}
    assert all(said in result.detail and "\n" not in result.detail for result in results)
    assert len(calls) == 1 and endpoint.requests == [], "each row tried to sign in, which takes seconds"


def test_an_entra_that_cannot_be_reached_is_asked_again(monkeypatch, endpoint):
    from azure.core.exceptions import ServiceRequestError

    tokens = [ServiceRequestError("no route"), "a-token"]

    def provide():
        token = tokens.pop(0)
        if isinstance(token, Exception):
            raise token
        return token

    monkeypatch.undo()
    monkeypatch.setattr(sign_in, "_refused", [])
    monkeypatch.setattr(calling, "_wait", lambda _state: 0.0)
    monkeypatch.setenv("ENDPOINT_SCORING_URI", endpoint.uri)
    monkeypatch.setattr(sign_in, "_provider", lambda: provide)
    assert ask().status == "ok" and not tokens


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ({"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1}]}, "[-0.5, -1.0]"),
        ({"content": [{"token": "a"}]}, ""),
        ({"content": None}, ""),
        ({"content": []}, ""),
        (None, ""),
    ],
)
def test_log_probabilities_are_passed_on_where_they_are(endpoint, told, read):
    status, headers, reply = ok("{}")
    reply["choices"][0]["logprobs"] = told
    endpoint.replies = [(status, headers, reply)]
    assert (ask().status, ask().logprobs) == ("ok", read)


def test_half_a_character_pair_does_not_stop_a_table(endpoint):
    endpoint.replies = [ok("a \ud83d b")]
    assert ask().answer == "a ? b"


@pytest.mark.parametrize(("wish", "least", "most"), [(0.0, 0.0, 8.0), (5.0, 5.0, 8.0), (900.0, 30.0, 33.0)])
def test_the_endpoints_wish_to_wait_is_kept_within_reason(wish, least, most):
    waits = set()
    for _ in range(20):
        state = RetryCallState(Retrying(), None, (), {})
        error = NoAnswer("busy", after=wish)
        state.set_exception((NoAnswer, error, None))
        waits.add(WAIT(state))
    assert all(least <= wait <= most for wait in waits)
    assert len(waits) > 15, "clients that were refused together come back together"


def test_the_wish_is_read_from_the_reply(endpoint, monkeypatch):
    waits = []
    monkeypatch.setattr(calling, "_wait", lambda state: waits.append(state.outcome.exception().after) or 0.0)
    date = formatdate(time.time() + 20, usegmt=True)
    endpoint.replies = [(429, {"retry-after": "3"}, ""), (503, {"retry-after": date}, ""), ok("{}")]
    assert ask().status == "ok"
    assert waits[0] == 3.0 and 15 < waits[1] <= 20


@given(st.text())
def test_no_wish_breaks_anything(text):
    assert wait_asked({"retry-after": text}) >= 0


FILTERED = {"error": {"code": "content_filter", "message": "No.", "innererror": {"kind": "harm", "category": "hate"}}}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((400, {}, FILTERED), "(harm, hate)"),
        ((424, {"ms-azureml-model-error-statuscode": "400"}, FILTERED), "(harm, hate)"),
        ((200, {}, {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}), "the answer"),
        ((200, {}, {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}), "the answer"),
    ],
)
def test_what_the_endpoints_filter_refused_is_blocked_and_not_asked_again(endpoint, reply, said):
    endpoint.replies = [reply, ok("{}")]
    result = ask()
    assert (result.status, result.answer, len(endpoint.requests)) == ("blocked", "", 1) and said in result.detail


@pytest.mark.parametrize("inner", ["500", "503", "", "x"])
def test_only_a_400_is_the_filters(endpoint, inner):
    endpoint.replies = [(424, {"ms-azureml-model-error-statuscode": inner}, FILTERED)]
    assert ask().status != "blocked"


def test_who_answered_is_told(endpoint):
    _, _, reply = ok("{}")
    headers = {"azureml-model-deployment": "blue", "x-model": "phi:7", "x-answer-id": "a" * 32}
    endpoint.replies = [(200, headers, reply)]
    result = ask()
    assert (result.deployment, result.model, result.answer_id) == ("blue", "phi:7", "a" * 32)
    endpoint.replies = [(200, {}, {**reply, "model": "m"})]
    assert (ask().deployment, ask().model) == ("", "m")


def test_a_key_stands_in_for_entra(endpoint, monkeypatch):
    monkeypatch.setattr(sign_in, "token", lambda: pytest.fail("Entra was asked"))
    assert ask(key="k").status == "ok" and endpoint.requests[0][0]["authorization"] == "Bearer k"


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "no messages"),
        ([{"role": "user"}], "Message 1"),
        ([{"role": "robot", "content": "x"}], "Message 1"),
        ([{"role": "user", "content": None}], "Message 1"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "half \ud83d"}], "Message 2 holds half"),
        (["hello"], "Message 1"),
    ],
)
def test_what_is_no_conversation_is_not_sent(endpoint, messages, complaint):
    with pytest.raises(ValueError, match=complaint):
        asked(messages)
    assert endpoint.requests == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENDPOINT_SCORING_URI", "ftp://x"), ("ENDPOINT_TIMEOUT", "soon"), ("ENDPOINT_TIMEOUT", "nan")],
)
def test_a_wrong_setting_is_said_by_its_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name):
        ask()
