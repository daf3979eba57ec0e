"""Ask the endpoint once and for all: signs in, waits and tries again where that is safe, and says what came of it.

A POST that may have been answered, whose reply was lost on the way, is sent again only because generating text changes
nothing on the endpoint: a second answer costs its tokens and no more. Not to be copied for a request that does more.
"""

import functools
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_after_delay
from tenacity.wait import wait_random_exponential

from . import sign_in, tracing
from .replies import read, who
from .result import NoAnswer, Result
from .settings import Endpoint, endpoint
from .shapes import SHAPES
from .statuses import MODEL_STATUS, meaning, wait_asked, why_blocked

CONNECT = 10.0  # seconds
ATTEMPTS, PATIENCE = 4, 180.0  # tries per prompt, and seconds after which no further one starts
LONGEST_WAIT = 30.0  # seconds: an endpoint that asks for more is as good as away
ROLES = ("system", "user", "assistant")

Message = Mapping[str, str]
Decoding = Mapping[str, Any]
Answer = TypeVar("Answer")
_lock = threading.Lock()


def ask(
    messages: Sequence[Message], decoding: Decoding | None = None, *, deployment: str = "", uri: str = "", key: str = ""
) -> Result:
    """The endpoint's answer to a conversation. `decoding` is what the request says beside the messages.

    `uri` and `deployment` are the environment's (settings.py) unless given. Raises ValueError for a wrong input or
    set-up, nothing else.
    """
    where = endpoint(uri, deployment, key)
    body = request_body(messages, decoding, where)
    end = tracing.begin("ask")
    result = answered(where, body)
    end(result)
    return result


def answered(where: Endpoint, body: dict[str, Any]) -> Result:
    """What came of it in the end."""
    try:
        return persistent(lambda: _post(where, body))
    except NoAnswer as error:
        return Result("", "infra_error", detail=str(error))


def request_body(messages: Sequence[Message], decoding: Decoding | None, where: Endpoint) -> dict[str, Any]:
    """What is posted. Raises ValueError."""
    sent = []
    for at, message in enumerate(messages):
        role, content = (message.get("role"), message.get("content")) if isinstance(message, Mapping) else (None, None)
        if role not in ROLES or not isinstance(content, str):
            raise ValueError(f"Message {at + 1} must have a role ({', '.join(ROLES)}) and a content, which is text.")
        try:
            content.encode()
        except UnicodeEncodeError:
            raise ValueError(f"Message {at + 1} holds half a character pair, which is no text.") from None
        sent.append({"role": role, "content": content})
    if not sent:
        raise ValueError("There are no messages: give at least the user's.")
    if where.shape != "openai":
        return SHAPES[where.shape].request(sent, dict(decoding or {}))
    # A request to one colour is no customer's: the endpoint keeps nothing about it.
    ours = {"user": "release-train"} if where.deployment else {}
    return {**ours, **(decoding or {}), "messages": sent}


def persistent(attempt: Callable[[], Answer]) -> Answer:
    """Wait and try again while the endpoint is not to be had. Raises the last NoAnswer."""
    tries = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, NoAnswer) and error.retry),
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(PATIENCE),
        wait=_wait,
        reraise=True,
    )
    return tries(attempt)


def _wait(state: RetryCallState) -> float:
    """Seconds: by chance, so that clients that were refused together do not come back together; at least as long as
    the endpoint asked for, and then a little apart."""
    error = state.outcome.exception() if state.outcome else None
    asked = min(error.after, LONGEST_WAIT) if isinstance(error, NoAnswer) else 0.0
    apart = float(wait_random_exponential(multiplier=1, max=8, min=0.1)(state))
    return asked + random.uniform(0, 0.1) * asked if asked > apart else apart  # noqa: S311 - no secret


def headers_for(where: Endpoint) -> dict[str, str]:
    """Raises NoAnswer when nobody can sign in."""
    headers = {"Authorization": f"Bearer {where.key or sign_in.token()}"}
    return headers | ({"azureml-model-deployment": where.deployment} if where.deployment else {})


def _post(where: Endpoint, body: dict[str, Any]) -> Result:
    headers = headers_for(where)
    started = time.perf_counter()
    try:
        response = http().post(where.uri, json=body, headers=headers, timeout=timeout(where))
    except httpx.HTTPError as error:
        raise lost(error) from error
    took = since(started)
    if response.status_code == httpx.codes.OK:
        return read(response.text, response.headers, took, where.shape)
    return refused(response, took)


def refused(response: httpx.Response, took: float) -> Result:
    """What a status other than 200 comes to. Raises NoAnswer where it says nothing about the model."""
    means = meaning(response.status_code, response.headers, response.text)
    if means.status == "blocked":
        return Result("", "blocked", took, detail=why_blocked(response.text), **who(response.headers, {}))
    inner = response.headers.get(MODEL_STATUS, "")
    said = " ".join(response.text.split())[:200]
    if means.status == "model_error":
        detail = f"the model answered {inner or response.status_code}: {said}"
        return Result("", "model_error", took, detail=detail, **who(response.headers, {}))
    answered = f"{response.status_code} {inner}".strip()
    raise NoAnswer(f"the endpoint answered {answered}: {said}", retry=means.retry, after=wait_asked(response.headers))


def lost(error: httpx.HTTPError) -> NoAnswer:
    return NoAnswer(f"no answer from the endpoint ({type(error).__name__}: {error})")


def since(started: float) -> float:
    """Milliseconds."""
    return round((time.perf_counter() - started) * 1000, 1)


def timeout(where: Endpoint) -> httpx.Timeout:
    return httpx.Timeout(where.timeout, connect=min(CONNECT, where.timeout))


def http() -> httpx.Client:
    with _lock:  # the first rows of a batch come at once, and one client is enough
        return _client()


@functools.cache
def _client() -> httpx.Client:
    """One client for all, so that connections are reused; how many are open the caller decides."""
    return httpx.Client(limits=httpx.Limits(max_connections=None, max_keepalive_connections=64))
