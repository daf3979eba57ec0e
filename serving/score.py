"""What runs on the endpoint: `azureml-inference-server-http` calls `init()` once and `run()` for each request.

The server's worker has one model and, with `GUNICORN_CMD_ARGS="--threads 20 --keep-alive 75"`, that many requests at
a time; they meet in one running batch (batcher.py). Without threads it works too, one request at a time. Keep a few
threads more than `max_concurrent_requests_per_instance`, so that health probes never wait behind answers.

Environment (all optional but the first, which Azure ML sets):
  AZUREML_MODEL_DIR     where the registered model lies; the folder in it that has config.json is loaded
  MAX_BATCH_SIZE        requests decoded together (16)
  BATCH_WAIT_MS         how long an idle model waits for company (10)
  PREFIX_CACHE_TOKENS   tokens of shared prompt beginnings kept (4096; 0 switches it off)
  DEFAULT_MAX_TOKENS    length of an answer when the request does not say (256)
  MAX_OUTPUT_TOKENS     longest answer one may ask for (1024)
  MAX_INPUT_TOKENS      longest prompt (the model's context minus the answer asked for)
  SCORING_TIMEOUT_MS    a request that takes longer is given up with 504 (180000; Azure ML sets it)
  ANSWER_SCHEMA         JSON schema that an answer should have; counted, never enforced (none)
  CONTENT_FILTER        local, azure (with CONTENT_SAFETY_ENDPOINT) or off: who looks at prompts and answers (local)
  COLLECT_CONTENT       true: masked prompts and answers may be kept, if the collection `content` is on (false)

What is kept about requests, and when: collect.py. Each answer has an id in its header `x-answer-id`; to say what was
thought of it, send {"feedback": {"id": …, "rating": "up" or "down"}} to the same address.
"""

import gc
import logging
import os
import sys
import time
import uuid
from concurrent.futures import TimeoutError as Late
from dataclasses import replace
from pathlib import Path
from typing import Any

# Before torch comes in: without it, the matrix library under CPU attention rounds by where its buffers lie, and about
# one answer in three (64 tokens, untuned model) depended on its neighbours in the batch. Costs nothing measurable.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# So that no installed package of the same name is taken for a sibling of this file.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from azureml_inference_server_http.api.aml_response import AMLResponse
from collect import FEEDBACK, Turn
from collect import start as start_collecting
from decoding import Request
from guard import BLOCKED, Blocked, check_answer, check_prompts, told
from prompts import PromptError
from screen import Undecided
from service import Service, load, model_folder
from wire import Answer, BadRequest, parse

log = logging.getLogger("azmlinfsrv.serving")


service: Service | None = None


def init() -> None:
    """Load the model; the server takes requests, and says it is healthy, only when this returns."""
    global service  # noqa: PLW0603 - the server's contract is two module-level functions
    start = time.perf_counter()
    root = os.environ.get("AZUREML_MODEL_DIR", "")
    folder = model_folder(root)
    gc.disable()  # libraries and model live as long as the process: looking through them for rubbish only takes time,
    service = load(folder)
    service = replace(service, collecting=start_collecting(service.prompts.tokenizer, root))
    gc.freeze()  # now, and in the middle of somebody's request
    gc.enable()
    log.info("model %s ready in %.1f s", folder.name, time.perf_counter() - start)
    log.info("content filter: %s. %s", service.screen.mode, service.screen.sees)


def run(body: str) -> AMLResponse:
    """Answer one request body; a caller's mistake is a 4xx with one sentence, a failure of ours a 5xx with one."""
    identity = uuid.uuid4().hex
    try:
        assert service is not None, "init() has not run"  # noqa: S101
        if FEEDBACK.match(body):
            return AMLResponse(take_feedback(service, body), 200, json_str=True)
        return AMLResponse(respond(service, body, identity), 200, {"x-answer-id": identity}, json_str=True)
    except BadRequest as error:
        return _problem(error.status, str(error))
    except Blocked as blocked:
        return AMLResponse(blocked.body, 400, json_str=True)
    except (Late, Undecided) as error:
        return _too_late(error)
    except Exception:
        log.exception("a request failed")
        return _problem(500, "The model failed on this request; the deployment's log says why. Send it again.")


def take_feedback(to: Service, body: str) -> Any:
    """The JSON reply to somebody's opinion of an earlier answer. Raises BadRequest."""
    if problem := to.collecting.feedback(body) if to.collecting else "This deployment keeps no feedback.":
        raise BadRequest(problem)
    return {"feedback": "noted"}


def respond(to: Service, body: str, identity: str = "") -> Any:
    """The JSON reply to a request body. `identity`: what its answers are called where they are kept. Raises BadRequest,
    Blocked, Undecided, concurrent.futures.TimeoutError.
    """
    deadline = time.monotonic() + to.timeout
    call = parse(body, to.limits)
    room = to.context - call.sampling.max_tokens
    limit = min(room, to.max_input or room)
    try:
        prompts = [to.prompts.encode(messages) for messages in call.conversations]
    except PromptError as error:
        raise BadRequest(str(error)) from None
    if (longest := max(map(len, prompts))) > limit:
        asked = f"an answer of {call.sampling.max_tokens}"
        raise BadRequest(f"The prompt has {longest} tokens; with {asked} at most {limit} fit this deployment.", 413)
    keep = to.collecting if not call.ours else None
    try:
        check_prompts(to.screen, call.conversations)
    except Blocked as blocked:
        if keep:
            asked = call.conversations[blocked.at], prompts[blocked.at]
            keep.offer(Turn(identity, *asked, "", 0, BLOCKED, told(blocked.finding)))
        raise
    requests = [to.batcher.submit(prompt, call.sampling) for prompt in prompts]
    try:
        for request in requests:
            request.done.result(max(0.0, deadline - time.monotonic()))
    finally:
        for request in requests:  # after a failure or a time-out nobody wants the rest
            request.abandoned = True
    checked = [check_answer(to.screen, _answer(to, request)) for request in requests]
    if keep:
        for at, (messages, request, (answer, found)) in enumerate(
            zip(call.conversations, requests, checked, strict=True)
        ):
            named = f"{identity}-{at}" if at else identity
            said = (answer.text, answer.completion_tokens, answer.finish_reason)
            keep.offer(Turn(named, messages, request.prompt, *said, told(found)))
    return call.reply([answer for answer, _ in checked], to.name)


def _answer(to: Service, request: Request) -> Answer:
    told = [(to.prompts.decode([token]), value) for token, value in zip(request.answer, request.logprobs, strict=False)]
    text = to.prompts.decode(request.answer)
    logprobs = told if request.sampling.logprobs else None
    return Answer(text, request.finish_reason, len(request.prompt), len(request.answer), logprobs)


def _too_late(error: Late | Undecided) -> AMLResponse:
    if isinstance(error, Undecided):
        log.warning("%s", error)
        sentence = "The content filter could not judge this request; send it again later."
        return _problem(503, sentence, {"Retry-After": str(error.retry_after)})
    return _problem(504, "The answer took longer than SCORING_TIMEOUT_MS and was given up; ask for fewer tokens.")


def _problem(status: int, sentence: str, headers: dict[str, str] | None = None) -> AMLResponse:
    return AMLResponse({"error": {"code": status, "message": sentence}}, status, headers or {}, json_str=True)
