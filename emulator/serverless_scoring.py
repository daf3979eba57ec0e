"""The address of a serverless endpoint: who may ask, how often, what is filtered, and what the model says.

Paths: `/v1/chat/completions`, `/chat/completions`, `/info`. Unlike at an online endpoint the model's own status comes
through as it is.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import time
import uuid
from collections import defaultdict, deque
from typing import Any

import httpx
from starlette.responses import JSONResponse, Response

from emulator import content_safety
from emulator.errors import ArmError
from emulator.identity import AUDIENCES
from emulator.roles import may
from emulator.routing import SERVERLESS, Call, route
from emulator.runtime import Runtime, runtime_of
from emulator.store import Resource

CHAT = r"/(?:v1/)?chat/completions"
# Which role lets an Entra token ask is not told; here it is whoever may read the keys, which let one ask as well.
ASK = "Microsoft.MachineLearningServices/workspaces/serverlessEndpoints/listKeys/action"
# "Each deployment has a rate limit of 200,000 tokens per minute and 1,000 API requests per minute."
REQUESTS_A_MINUTE, TOKENS_A_MINUTE, MINUTE = 1_000, 200_000, 60.0
TIMEOUT = 180.0
_SPENT: dict[str, deque[tuple[float, int]]] = defaultdict(deque)  # by endpoint: when, and how many tokens


@route("POST", SERVERLESS, CHAT, audience=None)
async def chat(call: Call) -> Response:
    runtime = runtime_of(call.emulator)
    try:
        endpoint = _endpoint(runtime, call)
        _authorize(call, endpoint)
        await _until_restarted(runtime, endpoint["id"].lower())
        return await _answer(runtime, call, endpoint)
    except ArmError as refused:
        headers = {"Retry-After": "5"} if refused.status == 429 else None
        body = {"error": {"code": refused.code, "message": refused.message, "status": refused.status}}
        return JSONResponse(body, refused.status, headers)


@route("GET", SERVERLESS, r"/info", audience=None)
def info(call: Call) -> Response:
    try:
        endpoint = _endpoint(runtime_of(call.emulator), call)
        _authorize(call, endpoint)
    except ArmError as refused:
        return JSONResponse(refused.body(), refused.status)
    name = _model_name(endpoint)
    return JSONResponse({"model_name": name, "model_type": "chat-completion", "model_provider_name": "Microsoft"})


def _model_name(endpoint: Resource) -> str:
    found = re.search(r"/models/([^/]+)", endpoint["properties"]["modelSettings"]["modelId"])
    return found[1] if found else ""


def _endpoint(runtime: Runtime, call: Call) -> Resource:
    name, store = call.host.partition(".")[0], runtime.emulator.store
    key = f"serverless {name}"
    if key not in runtime.endpoint_ids:
        found = store.find(rf".*/serverlessEndpoints/{re.escape(name)}")
        if not found:
            raise ArmError(404, "NotFound", "Endpoint not found")
        runtime.endpoint_ids[key] = found[0]["id"]
    endpoint = store.get(runtime.endpoint_ids[key])
    if endpoint is None:
        raise ArmError(404, "NotFound", "Endpoint not found")
    return endpoint


def _authorize(call: Call, endpoint: Resource) -> None:
    """ArmError 401 unless a key (bearer, bare, or in `api-key`) or an Entra token comes that the auth mode accepts."""
    given = call.headers.get("authorization", "") or call.headers.get("api-key", "")
    bearer = given.removeprefix("Bearer ").removeprefix("bearer ").strip()
    mode = endpoint["properties"]["authMode"]
    if not bearer:
        raise ArmError(401, "Unauthorized", "Auth token must be passed as a header called Authorization")
    if mode != "AAD" and any(hmac.compare_digest(bearer.encode(), key.encode()) for key in endpoint["_keys"].values()):
        return
    if mode == "Key":
        raise ArmError(401, "Unauthorized", "Invalid API key provided.")
    claims = call.emulator.tokens.verify(f"Bearer {bearer}", (*AUDIENCES["ml"], "https://cognitiveservices.azure.com"))
    if not may(call, ASK, endpoint["id"], principal=str(claims["oid"])):
        raise ArmError(401, "PermissionDenied", "The principal lacks the required action to ask this endpoint.")


async def _until_restarted(runtime: Runtime, target: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while target in runtime.restarting and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


async def _answer(runtime: Runtime, call: Call, endpoint: Resource) -> Response:
    backend = runtime.backends.get(endpoint["id"].lower())
    if backend is None or not backend.alive:
        raise ArmError(503, "ServiceUnavailable", "The endpoint is not ready.")
    spent = _spent(endpoint["id"].lower())
    filtered = endpoint["properties"]["contentSafety"]["contentSafetyStatus"] == "Enabled"
    prompt = content_safety.prompt_verdict(_text(call.body)) if filtered else {}
    if content_safety.refuses(prompt):
        return JSONResponse(content_safety.refusal(prompt), 400)
    try:
        answer = await runtime.http().post(
            f"http://127.0.0.1:{backend.port}/score",
            content=call.body,
            headers={"content-type": "application/json"},
            timeout=TIMEOUT,
        )
    except httpx.TimeoutException:
        raise ArmError(408, "Timeout", "The request timed out.") from None
    except httpx.HTTPError:
        raise ArmError(502, "BadGateway", "The model ended while it answered.") from None
    try:
        told: dict[str, Any] = answer.json()
    except ValueError:
        raise ArmError(500, "InternalServerError", "The model gave no JSON.") from None
    if answer.status_code != httpx.codes.OK:
        return JSONResponse(told, answer.status_code)
    spent.append((time.monotonic(), int((told.get("usage") or {}).get("total_tokens", 0))))
    for choice in told["choices"] if filtered else ():
        result = content_safety.verdict(str(choice["message"]["content"]))
        choice["content_filter_results"] = result
        if content_safety.refuses(result):
            choice["message"]["content"], choice["finish_reason"] = "", "content_filter"
    identity = {"id": uuid.uuid4().hex, "created": int(time.time()), "model": _model_name(endpoint)}
    return JSONResponse({**told, **identity, **({"prompt_filter_results": prompt} if filtered else {})})


def _spent(target: str) -> deque[tuple[float, int]]:
    """What the endpoint answered in the last minute. ArmError 429 when that is as much as it may."""
    spent, now = _SPENT[target], time.monotonic()
    while spent and spent[0][0] < now - MINUTE:
        spent.popleft()
    if len(spent) >= REQUESTS_A_MINUTE or sum(tokens for _, tokens in spent) >= TOKENS_A_MINUTE:
        raise ArmError(429, "RateLimitReached", "Rate limit is exceeded. Try again in 5 seconds.")
    return spent


def _text(body: bytes) -> str:
    """All that the messages say; "" for a body that the model will refuse anyway."""
    try:
        messages = json.loads(body)["messages"]
        return "\n".join(str(message["content"]) for message in messages)
    except (ValueError, KeyError, TypeError):
        return ""
