"""The flow's one node: put a user's text to the endpoint and say what came of it.

A failure is a result, not an exception, so that a batch keeps every row: `model_error` is the model's own fault and
counts against it; `infra_error` is the network's or the gateway's, is retried first, and counts against nobody.
"""

import functools
import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import httpx
from promptflow.core import tool
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)

HERE = Path(__file__).resolve().parent
SCOPE = "https://ml.azure.com/.default"
TIMEOUT = httpx.Timeout(120.0, connect=10.0)  # seconds; a busy endpoint may queue a request for a minute
ATTEMPTS, PATIENCE = 4, 180.0  # tries per prompt, and seconds after which no further one starts
# Statuses of the gateway that say "not now". From the model's container, failures arrive as 424 instead.
NOT_NOW = {408, 429, 502, 503, 504}
# 424 carries the container's own status in this header: when that is one of BUSY, it was full or not up yet.
MODEL_STATUS, BUSY = "ms-azureml-model-error-statuscode", {"429", "503"}
MODEL_FAULT = {400, 413, 422, 424}
REFUSED_SECONDS = 5.0  # for so long nobody tries to sign in again after that failed
SIGN_IN_CODE = re.compile(r"AADSTS\d+[^.\n]*")

Message = dict[str, str]
Decoding = dict[str, Any]
_lock = threading.Lock()
_refused: list[tuple[float, str]] = []  # when a sign-in failed, and why; at most one


class Result(TypedDict):
    """`latency_ms` is the wall time of the last attempt, `tokens` counts prompt and answer; `detail` is for people."""

    answer: str
    status: str
    latency_ms: float
    tokens: int
    detail: str
    logprobs: str


class InfraError(Exception):
    """The endpoint gave no answer that says anything about the model."""

    def __init__(self, detail: str, *, retry: bool = True, after: float = 0.0) -> None:
        super().__init__(detail)
        self.retry = retry
        self.after = after  # seconds the endpoint asked us to wait


@tool
def integrate_with_promptflow(
    input_data: str, chat_history: list | None = None, few_shot: int = 0, decoding: dict | None = None
) -> Result:
    """Ask the endpoint about `input_data`. Raises ValueError for a wrong input or set-up, nothing else."""
    messages = conversation(input_data, chat_history or [], few_shot)
    uri = os.environ.get("ENDPOINT_SCORING_URI", "")
    if not uri:
        raise ValueError("ENDPOINT_SCORING_URI is not set: give the endpoint's scoring URI.")
    return ask(uri, {**(decoding or {}), "messages": messages}, os.environ.get("ENDPOINT_DEPLOYMENT", ""))


def conversation(input_data: str, chat_history: list[Any], few_shot: int) -> list[Message]:
    """The messages to send: system prompt, examples, earlier turns, the user's text. Raises ValueError."""
    if not input_data.strip():
        raise ValueError("input_data is empty: give the user's text.")
    examples = few_shot_examples()
    if not 0 <= few_shot <= len(examples):
        raise ValueError(f"few_shot is {few_shot}, but few_shot.jsonl has {len(examples)} examples.")
    messages = [{"role": "system", "content": system_prompt()}]
    for example in examples[:few_shot]:
        messages += example
    for turn in chat_history:
        messages += _turn(turn)
    return [*messages, {"role": "user", "content": input_data}]


def _turn(turn: Any) -> list[Message]:
    if isinstance(turn, dict) and {"role", "content"} <= turn.keys():
        return [{"role": turn["role"], "content": turn["content"]}]
    try:
        pair = (("user", turn["inputs"]["input_data"]), ("assistant", turn["outputs"]["answer"]))
    except (KeyError, TypeError):
        raise ValueError("chat_history must hold messages (role, content) or turns (inputs, outputs).") from None
    return [{"role": role, "content": content} for role, content in pair]


@functools.cache
def system_prompt() -> str:
    return (HERE / "system_prompt.txt").read_text(encoding="utf-8").strip()


@functools.cache
def few_shot_examples() -> list[list[Message]]:
    """Each example's turns without its system message."""
    lines = (HERE / "few_shot.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line)["messages"] for line in lines if line.strip()]
    return [[message for message in row if message["role"] != "system"] for row in rows]


def ask(uri: str, body: dict[str, Any], deployment: str = "") -> Result:
    """Post the conversation, waiting and trying again while the endpoint is not to be had."""
    tries = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, InfraError) and error.retry),
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(PATIENCE),
        wait=_wait,
        reraise=True,
    )
    try:
        return tries(_post, uri, body, deployment)
    except InfraError as error:
        return _failed("infra_error", str(error))


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, InfraError) else 0.0
    return max(float(wait_exponential(multiplier=0.5, max=8)(state)), min(asked, 30.0))


def _post(uri: str, body: dict[str, Any], deployment: str) -> Result:
    headers = {"Authorization": f"Bearer {token()}"}
    if deployment:
        headers["azureml-model-deployment"] = deployment
        body = {"user": "release-train", **body}  # no customer's: the endpoint keeps nothing about it
    with _lock:  # the first rows of a batch come at once, and one client is enough
        client = http()
    started = time.perf_counter()
    try:
        response = client.post(uri, json=body, headers=headers)
    except httpx.HTTPError as error:
        raise InfraError(f"no answer from the endpoint ({type(error).__name__}: {error})") from error
    took = (time.perf_counter() - started) * 1000
    said = " ".join(response.text.split())[:200]
    if response.status_code == httpx.codes.OK:
        return _read(response, took)
    inner = response.headers.get(MODEL_STATUS, "")
    if response.status_code in NOT_NOW or (response.status_code == httpx.codes.FAILED_DEPENDENCY and inner in BUSY):
        raise InfraError(f"the endpoint answered {response.status_code} {inner}: {said}", after=_seconds(response))
    if response.status_code in MODEL_FAULT:
        return _failed("model_error", f"the model answered {inner or response.status_code}: {said}", took)
    # 401, 403, 404 and the like: waiting will not mend them.
    raise InfraError(f"the endpoint answered {response.status_code}: {said}", retry=False)


def _read(response: httpx.Response, took: float) -> Result:
    try:
        data = response.json()
        choice, usage = data["choices"][0], data.get("usage") or {}
        answer = choice["message"]["content"]
        tokens = int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))
        if not isinstance(answer, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return _failed("model_error", "the model's reply has no choices[0].message.content", took)
    answer = answer.encode("utf-8", "replace").decode()  # half a character pair can be written nowhere
    return {
        "answer": answer,
        "status": "ok",
        "latency_ms": round(took, 1),
        "tokens": tokens,
        "detail": "",
        "logprobs": _logprobs(choice),
    }


def _logprobs(choice: dict[str, Any]) -> str:
    """What OpenAI's format has of them, when `decoding` asks for `logprobs` and the endpoint knows them; else ""."""
    try:
        told = [float(token["logprob"]) for token in choice["logprobs"]["content"]]
        return json.dumps(told) if told else ""  # an answer without a token has none
    except (KeyError, TypeError, ValueError):
        return ""


def _failed(status: str, detail: str, took: float = 0.0) -> Result:
    took = round(took, 1)
    return Result(answer="", status=status, latency_ms=took, tokens=0, detail=detail, logprobs="")


def _seconds(response: httpx.Response) -> float:
    try:
        return float(response.headers.get("retry-after", 0))
    except ValueError:  # the header may also be a date; our own waiting is good enough then
        return 0.0


def token() -> str:
    """An Entra token for the endpoint, from azure-identity's cache while it lives. Raises InfraError.

    Where an endpoint knows keys alone (a serverless one), whoever starts the flow fetches one and puts it in
    ENDPOINT_KEY: in the environment of that process and nowhere else.
    """
    if key := os.environ.get("ENDPOINT_KEY"):
        return key
    from azure.core.exceptions import AzureError, ClientAuthenticationError

    with _lock:  # so that many first requests ask Entra once, and wait once when it says no
        if _refused and time.monotonic() - _refused[0][0] < REFUSED_SECONDS:
            raise InfraError(_refused[0][1], retry=False)
        try:
            return _token_provider()()
        except ClientAuthenticationError as error:
            _refused[:] = [(time.monotonic(), _why_refused(str(error)))]
            raise InfraError(_refused[0][1], retry=False) from error
        except AzureError as error:  # Entra could not be reached
            raise InfraError(f"no Entra token for the endpoint: {_first_line(str(error))}") from error


def _why_refused(text: str) -> str:
    """azure-identity's page about each way to sign in, as half a sentence: Entra's own words where it has some."""
    if code := SIGN_IN_CODE.search(text):
        return f"no Entra token for the endpoint: {code.group()}"
    if "failed to retrieve a token" in text:
        return "nobody is signed in to Azure: run `az login`, or give this process an identity"
    return f"no Entra token for the endpoint: {_first_line(text)}"


def _first_line(text: str) -> str:
    return (text.strip() or "no reason was given").splitlines()[0]


@functools.cache
def _token_provider() -> Callable[[], str]:
    from azure.identity import DefaultAzureCredential, get_bearer_token_provider

    credential = DefaultAzureCredential(exclude_interactive_browser_credential=True)
    provider: Callable[[], str] = get_bearer_token_provider(credential, SCOPE)
    return provider


@functools.cache
def http() -> httpx.Client:
    """One client for all rows, so that connections are reused; how many are open the batch decides."""
    return httpx.Client(timeout=TIMEOUT, limits=httpx.Limits(max_connections=None, max_keepalive_connections=64))
