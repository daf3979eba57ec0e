"""Has Azure AI Content Safety judge a text: harm (`text:analyze`) and, of prompts, attacks (`text:shieldPrompt`).

Signs in with Entra (the endpoint's identity, `az login`, workload identity), never with a key. A text is judged whole:
what is longer than the service takes goes in pieces that overlap, side by side. No answer in time, a refusal or a
reply without a judgement is `Undecided`, never "nothing found". No sentence here repeats what the service said, since
that may quote the text. The same file lies in serving/ and in flow/ (see screen.py).
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from screen import MEDIUM, Finding, Undecided, Where

API_VERSION = "2024-09-01"
SCOPE = "https://cognitiveservices.azure.com/.default"
# The service's names of the categories, and ours.
CATEGORIES = {"Violence": "violence", "Sexual": "sexual", "SelfHarm": "self_harm", "Hate": "hate"}
LONGEST, OVERLAP = 10_000, 500  # characters of one call (the service's limit for both), and shared by two pieces
SECONDS, CALL_SECONDS, TRIES = 12.0, 5.0, 3  # for a whole text; for one call; calls for one piece
NOT_NOW = {408, 429, 500, 502, 503, 504}
AT_ONCE = 32
AZURE_SEES = (
    "Azure AI Content Safety judges harm and prompt injection in the languages it was trained for; it does not see "
    "images, the truth of an answer, and what only several requests together make harmful."
)


class Service:
    def __init__(self, endpoint: str) -> None:
        """Raises ValueError for an address that is missing or not HTTPS: tokens travel in its requests."""
        parts = urlsplit(endpoint.strip())
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(
                "CONTENT_FILTER=azure needs the https address of an Azure AI Content Safety resource in "
                f"CONTENT_SAFETY_ENDPOINT, not {endpoint!r}"
            )
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy

        self._endpoint = endpoint.strip().rstrip("/")
        self._client: Any = PipelineClient(self._endpoint, policies=[BearerTokenCredentialPolicy(credential(), SCOPE)])
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="content-safety")

    def judge(self, text: str, where: Where) -> Finding | None:
        """The worst of what was found, an injection before harm. Raises Undecided."""
        until = time.monotonic() + SECONDS
        pieces = [text[at : at + LONGEST] for at in range(0, max(1, len(text) - OVERLAP), LONGEST - OVERLAP)]
        shields = [self._pool.submit(self._attacked, piece, until) for piece in pieces if where == "prompt"]
        grades = [self._pool.submit(self._severities, piece, until) for piece in pieces]
        try:
            attacked = [each.result() for each in shields]
            severities = [pair for each in grades for pair in each.result().items()]
        finally:
            for asked in (shields, grades):
                for each in asked:
                    each.cancel()
        if any(attacked):
            return Finding("injection", "attack", None, where)
        category, severity = max(severities, key=lambda pair: pair[1])
        return Finding("harm", category, severity, where) if severity >= MEDIUM else None

    def _attacked(self, text: str, until: float) -> bool:
        reply = self._asked("shieldPrompt", {"userPrompt": text, "documents": []}, until)
        analysis = reply.get("userPromptAnalysis")
        found = analysis.get("attackDetected") if isinstance(analysis, dict) else None
        if not isinstance(found, bool):
            raise Undecided("Azure AI Content Safety replied without saying whether the prompt is an attack.")
        return found

    def _severities(self, text: str, until: float) -> dict[str, int]:
        body = {"text": text, "categories": list(CATEGORIES), "outputType": "EightSeverityLevels"}
        analysis = self._asked("analyze", body, until).get("categoriesAnalysis")
        rows = [each for each in analysis if isinstance(each, dict)] if isinstance(analysis, list) else []
        found = {each.get("category"): each.get("severity") for each in rows}
        severities = {ours: found.get(name) for name, ours in CATEGORIES.items()}
        if not all(isinstance(value, int) and not isinstance(value, bool) for value in severities.values()):
            raise Undecided("Azure AI Content Safety replied without a severity for each kind of harm.")
        return {name: int(value) for name, value in severities.items() if value is not None}

    def _asked(self, verb: str, body: dict[str, Any], until: float) -> dict[str, Any]:
        """The reply to one call, tried again while the service says "not now" and there is time. Raises Undecided."""
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.core.rest import HttpRequest

        why, after = "it did not answer in time", 1.0
        for attempt in range(TRIES):
            left = until - time.monotonic()
            if left <= 0:
                break
            try:
                url = f"{self._endpoint}/contentsafety/text:{verb}?api-version={API_VERSION}"
                request = HttpRequest("POST", url, json=body)
                reply = self._client.send_request(
                    request, connection_timeout=min(left, CALL_SECONDS), read_timeout=min(left, CALL_SECONDS)
                )
                if reply.status_code == 200:
                    found = reply.json()
                    return found if isinstance(found, dict) else {}
                why = f"it answered HTTP {reply.status_code}"
                after = _seconds(reply.headers.get("Retry-After"), attempt)
                if reply.status_code not in NOT_NOW:
                    break
            except ClientAuthenticationError:
                why = "there is no Entra token for it"
                break
            except AzureError as error:
                why, after = f"it could not be reached ({type(error).__name__})", _seconds(None, attempt)
            except ValueError:
                why = "its reply is not JSON"
                break
            if attempt + 1 == TRIES or time.monotonic() + after >= until:
                break
            time.sleep(after)
        raise Undecided(f"Azure AI Content Safety could not judge the text: {why}.", round(after))


def _seconds(said: str | None, attempt: int) -> float:
    """How long the service asks to be left alone; when it does not say, a quarter of a second, then half of one."""
    try:
        return min(max(0.0, float(said or "")), 3600.0)
    except ValueError:
        return 0.25 * 2**attempt


def credential() -> Any:
    """Azure ML names the identity of a deployment in DEFAULT_IDENTITY_CLIENT_ID, where azure-identity does not look."""
    from azure.identity import DefaultAzureCredential

    own = os.environ.get("DEFAULT_IDENTITY_CLIENT_ID")
    options = {"managed_identity_client_id": own} if own else {}
    return DefaultAzureCredential(exclude_interactive_browser_credential=True, **options)
