"""The screen that asks Azure AI Content Safety, against a server over TLS that speaks its wire."""

import logging
import time
from collections.abc import Iterator

import pytest
import screen_azure
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from screen import Finding, Screen, Undecided

from tests.eval.safety_server import ATTACK, LONGEST, SafetyServer, safety_server


class SignedIn:
    def get_token(self, *scopes: str, **_options: object) -> AccessToken:
        assert scopes == ("https://cognitiveservices.azure.com/.default",)
        return AccessToken("the-token", int(time.time()) + 3600)


class Stranger:
    def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        raise ClientAuthenticationError("nobody knows you")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SafetyServer]:
    with safety_server(tmp_path_factory.mktemp("safety")) as found:
        yield found


@pytest.fixture
def service(server: SafetyServer, monkeypatch: pytest.MonkeyPatch) -> SafetyServer:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca))
    monkeypatch.setattr(screen_azure, "credential", SignedIn)
    server.failures, server.requests, server.reply, server.shield, server.delay = [], [], None, None, 0.0
    return server


def azure(service: SafetyServer) -> Screen:
    return Screen.from_environment({"CONTENT_FILTER": "azure", "CONTENT_SAFETY_ENDPOINT": service.url + "/"})


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": f"{ATTACK} punch punch punch punch"}, {"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("A quiet day.", None),
        ("punch " * 3, None),
        ("punch " * 4, Finding("harm", "violence", 4, "prompt")),
        ("wrists " * 6 + "vermin " * 5, Finding("harm", "self_harm", 6, "prompt")),
        (f"{ATTACK} and {'nude ' * 7}", Finding("injection", "attack", None, "prompt")),
    ],
)
def test_prompts_are_graded_and_shielded_without_the_system_prompt(
    service: SafetyServer, text: str, finding: Finding | None
) -> None:
    assert azure(service).prompt(user(text)) == finding
    asked = {request["path"]: request for request in service.requests}
    version = "api-version=2024-09-01"
    assert set(asked) == {f"/contentsafety/text:{verb}?{version}" for verb in ("analyze", "shieldPrompt")}
    assert asked[f"/contentsafety/text:shieldPrompt?{version}"]["body"] == {"userPrompt": text, "documents": []}
    for request in service.requests:
        assert request["headers"]["authorization"] == "Bearer the-token"
        assert "ocp-apim-subscription-key" not in request["headers"]


def test_answers_are_graded_only(service: SafetyServer) -> None:
    screen = azure(service)
    assert screen.answer("nude " * 5 + ATTACK) == Finding("harm", "sexual", 5, "answer")
    assert screen.answer("  ") is None
    assert len(service.requests) == 1


def test_a_long_text_is_judged_whole(service: SafetyServer) -> None:
    text = "x" * (LONGEST - 4) + "punch " * 5 + "y" * 15_000 + ATTACK
    assert azure(service).answer(text) == Finding("harm", "violence", 5, "answer")
    assert azure(service).prompt(user(text)) == Finding("injection", "attack", None, "prompt")
    assert all(len(r["body"].get("text") or r["body"]["userPrompt"]) <= LONGEST for r in service.requests)


def test_a_busy_service_is_asked_again(service: SafetyServer) -> None:
    service.failures = [(429, "0"), (503, None)]
    assert azure(service).answer("punch " * 4) == Finding("harm", "violence", 4, "answer")
    assert len(service.requests) == 3


@pytest.mark.parametrize(
    ("failures", "calls", "wait"),
    [
        ([(503, "0")] * 9, 3, 1),
        ([(429, "120")], 1, 120),  # longer than anybody waits here: said to the caller instead
        ([(403, None)], 1, 1),
        ([(400, None)], 1, 1),
        ([(302, None)], 1, 1),
    ],
)
def test_no_judgement_is_never_nothing_found(
    service: SafetyServer, failures: list[tuple[int, str | None]], calls: int, wait: int
) -> None:
    service.failures = list(failures)
    with pytest.raises(Undecided, match=f"it answered HTTP {failures[0][0]}") as undecided:
        azure(service).answer("words of a secret")
    assert "secret" not in str(undecided.value) and "said no" not in str(undecided.value)
    assert (len(service.requests), undecided.value.retry_after) == (calls, wait)


@pytest.mark.parametrize(
    "shield", [{}, [], {"userPromptAnalysis": {"attackDetected": None}}, {"userPromptAnalysis": 1}]
)
def test_a_reply_without_a_judgement_of_attacks(service: SafetyServer, shield: object) -> None:
    service.shield = shield
    with pytest.raises(Undecided, match="without saying whether"):
        azure(service).prompt(user("hello"))


@pytest.mark.parametrize("reply", [[], [{"category": "Hate", "severity": 0}], "no", [{"severity": 1}, 3]])
def test_a_reply_without_every_severity(service: SafetyServer, reply: object) -> None:
    service.reply = reply
    with pytest.raises(Undecided, match="without a severity"):
        azure(service).answer("hello")


def test_a_service_that_hangs_is_left_in_time(service: SafetyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen_azure, "SECONDS", 0.5)
    service.delay = 1.0
    with pytest.raises(Undecided, match="could not be reached"):
        azure(service).answer("hello")
    assert len(service.requests) <= 1, "it asked again, in the time of whoever waits"


def test_nobody_there_and_no_token(service: SafetyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    away = {"CONTENT_FILTER": "azure", "CONTENT_SAFETY_ENDPOINT": "https://localhost:9"}
    with pytest.raises(Undecided, match="could not be reached"):
        Screen.from_environment(away).answer("hello")
    monkeypatch.setattr(screen_azure, "credential", Stranger)
    with pytest.raises(Undecided, match="no Entra token"):
        azure(service).answer("hello")
    assert service.requests == []


def test_logs_hold_no_text(service: SafetyServer, caplog: pytest.LogCaptureFixture) -> None:
    service.failures = [(500, "0")]
    with caplog.at_level(logging.DEBUG):
        azure(service).prompt(user("words of a secret"))
    assert "secret" not in caplog.text and "the-token" not in caplog.text


@pytest.mark.parametrize("address", ["", "http://x.cognitiveservices.azure.com", "x.cognitiveservices.azure.com"])
def test_a_wrong_address_is_one_sentence_at_the_start(address: str) -> None:
    with pytest.raises(ValueError, match="CONTENT_SAFETY_ENDPOINT, not"):
        Screen.from_environment({"CONTENT_FILTER": "azure", "CONTENT_SAFETY_ENDPOINT": address})


def test_the_identity_of_a_deployment_is_the_one_that_azure_ml_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import azure.identity

    asked: list[dict[str, object]] = []
    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", lambda **options: asked.append(options))
    monkeypatch.delenv("DEFAULT_IDENTITY_CLIENT_ID", raising=False)
    screen_azure.credential()
    monkeypatch.setenv("DEFAULT_IDENTITY_CLIENT_ID", "an-id")
    screen_azure.credential()
    assert [options.get("managed_identity_client_id") for options in asked] == [None, "an-id"]


def test_the_digest_says_which_service_judged(service: SafetyServer) -> None:
    assert azure(service).digest != Screen.from_environment({}).digest
