"""The node against a real HTTP server: what it sends, what it calls a failure and whose, and when it tries again."""

import socket

import httpx
import pytest
from tenacity import RetryCallState, Retrying

from flow import integrate_with_promptflow as node

WAIT = node._wait


@pytest.fixture(autouse=True)
def signed_in_and_impatient(monkeypatch, endpoint):
    monkeypatch.setattr(node, "token", lambda: "a-token")
    monkeypatch.setattr(node, "_wait", lambda _state: 0.0)
    monkeypatch.setattr(node, "_refused", [])
    monkeypatch.setenv("ENDPOINT_SCORING_URI", endpoint.uri)
    monkeypatch.delenv("ENDPOINT_DEPLOYMENT", raising=False)


def ask(text="Where is my parcel?", **inputs):
    return node.integrate_with_promptflow(input_data=text, **inputs)


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
    assert body["messages"][0]["content"] == node.system_prompt()
    assert set(body) == {"messages", "user"}, "how to decode is the flow's to say, not the node's"
    assert body["user"] == "release-train", "a request to one colour is no customer's"
    assert (result["answer"], result["status"], result["tokens"], result["detail"]) == ('{"a":1}', "ok", 12, "")
    assert result["latency_ms"] > 0


def test_how_to_decode_is_sent_as_it_is_given_and_cannot_replace_the_conversation(endpoint):
    ask(decoding={"temperature": 0.7, "max_tokens": 5, "top_p": 0.9, "messages": []})
    body = endpoint.requests[0][1]
    assert body.pop("messages")[-1]["content"] == "Where is my parcel?"
    assert body == {"temperature": 0.7, "max_tokens": 5, "top_p": 0.9}


def test_without_a_deployment_the_traffic_decides(endpoint):
    ask()
    headers, body = endpoint.requests[0]
    assert "azureml-model-deployment" not in headers and "user" not in body


def test_examples_and_both_kinds_of_history_go_before_the_text(endpoint):
    turn = {"inputs": {"input_data": "first"}, "outputs": {"answer": "one"}}
    ask("third", chat_history=[turn, {"role": "user", "content": "second"}], few_shot=2)
    sent = endpoint.requests[0][1]["messages"]
    examples = [message for example in node.few_shot_examples()[:2] for message in example]
    assert sent[1 : 1 + len(examples)] == examples and len(examples) >= 4
    assert [message["content"] for message in sent[1 + len(examples) :]] == ["first", "one", "second", "third"]


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"text": "  "}, "input_data is empty"),
        ({"few_shot": 999}, "few_shot is 999"),
        ({"few_shot": -1}, "few_shot is -1"),
        ({"chat_history": ["hello"]}, "chat_history"),
    ],
)
def test_a_wrong_input_is_an_error_and_not_an_answer(endpoint, inputs, complaint):
    with pytest.raises(ValueError, match=complaint):
        ask(**inputs)
    assert endpoint.requests == []


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
    assert (result["status"], result["answer"]) == ("model_error", "") and result["detail"]
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [(status, {}, "later") for status in (408, 429, 502, 503, 504)]
    + [(424, {"ms-azureml-model-error-statuscode": busy}, "full") for busy in ("429", "503")]
    + [(0, {}, "")],
)
def test_the_infrastructures_failure_is_asked_again(endpoint, reply):
    endpoint.replies = [reply, reply, ok("{}")]
    assert ask()["status"] == "ok"
    assert len(endpoint.requests) == 3


def test_tries_are_bounded(endpoint):
    endpoint.replies = [(503, {}, "down")]
    result = ask()
    assert (result["status"], result["answer"]) == ("infra_error", "") and "503" in result["detail"]
    assert len(endpoint.requests) == node.ATTEMPTS


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_waiting_does_not_mend_is_not_asked_again(endpoint, status):
    endpoint.replies = [(status, {}, "no")]
    assert ask()["status"] == "infra_error"
    assert len(endpoint.requests) == 1


def test_no_connection_is_infrastructure(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ENDPOINT_SCORING_URI", f"http://127.0.0.1:{unused.getsockname()[1]}/score")
        result = ask()
    assert result["status"] == "infra_error" and "ConnectError" in result["detail"]


def test_silence_is_infrastructure(monkeypatch):
    with socket.socket() as silent:  # accepts and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("ENDPOINT_SCORING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}/score")
        monkeypatch.setattr(node, "http", lambda: httpx.Client(timeout=0.05))
        result = ask()
    assert result["status"] == "infra_error" and "ReadTimeout" in result["detail"]


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
    monkeypatch.setattr(node, "_refused", [])
    monkeypatch.setenv("ENDPOINT_SCORING_URI", endpoint.uri)
    monkeypatch.setattr(node, "_token_provider", lambda: refuse)
    results = [ask() for _ in range(3)]
    assert {result["status"] for result in results} == {"infra_error"}
    assert all(said in result["detail"] and "\n" not in result["detail"] for result in results)
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
    monkeypatch.setattr(node, "_refused", [])
    monkeypatch.setattr(node, "_wait", lambda _state: 0.0)
    monkeypatch.setenv("ENDPOINT_SCORING_URI", endpoint.uri)
    monkeypatch.setattr(node, "_token_provider", lambda: provide)
    assert ask()["status"] == "ok" and not tokens


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
    assert (ask()["status"], ask()["logprobs"]) == ("ok", read)


def test_half_a_character_pair_does_not_stop_a_table(endpoint):
    endpoint.replies = [ok("a \ud83d b")]
    assert ask()["answer"] == "a ? b"


@pytest.mark.parametrize(("asked", "seconds"), [(0.0, 0.5), (5.0, 5.0), (900.0, 30.0)])
def test_the_endpoints_wish_to_wait_is_kept_within_reason(asked, seconds):
    state = RetryCallState(Retrying(), None, (), {})
    error = node.InfraError("busy", after=asked)
    state.set_exception((node.InfraError, error, None))
    assert WAIT(state) == seconds


def test_the_wish_is_read_from_the_reply(endpoint, monkeypatch):
    waits = []
    monkeypatch.setattr(node, "_wait", lambda state: waits.append(state.outcome.exception().after) or 0.0)
    endpoint.replies = [(429, {"retry-after": "3"}, ""), (503, {"retry-after": "Wed, 21 Oct 2026"}, ""), ok("{}")]
    assert ask()["status"] == "ok"
    assert waits == [3.0, 0.0]
