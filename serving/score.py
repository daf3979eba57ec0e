"""What runs on the endpoint: `azureml-inference-server-http` calls `init()` once and `run()` for each request.

The server's worker has one model and, with `GUNICORN_CMD_ARGS="--threads 40 --keep-alive 75 --graceful-timeout 100"`,
that many requests at a time; they meet in one running batch (batcher.py). Without threads it works too, one request at
a time. Keep more threads than MAX_BATCH_SIZE + MAX_QUEUED_REQUESTS, so that neither a health probe nor a refusal ever
waits behind answers, and a graceful timeout longer than a request may take, so that a stop loses none.

Environment (all optional but the first, which Azure ML sets):
  AZUREML_MODEL_DIR     where the registered model lies; the folder in it that has config.json is loaded
  MAX_BATCH_SIZE        requests decoded together (16)
  MAX_QUEUED_REQUESTS   answers that may wait for a place in that batch; more are refused with 429 (16)
  BATCH_WAIT_MS         how long an idle model waits for company (10)
  PREFIX_CACHE_TOKENS   tokens of shared prompt beginnings kept (4096; 0 switches it off)
  DEFAULT_MAX_TOKENS    length of an answer when the request does not say (256)
  MAX_OUTPUT_TOKENS     longest answer one may ask for (1024)
  MAX_INPUT_TOKENS      longest prompt (the model's context minus the answer asked for)
  SCORING_TIMEOUT_MS    a request that takes longer is given up with 504 (180000)
  CLIENT_TIMEOUT_MS     a client that stalls in the middle of a request or of its answer is let go (20000)
  MODEL_DIGEST          what the folder's digest must be, or the server does not start (not checked)
  ANSWER_SCHEMA         JSON schema that an answer should have; counted, never enforced (none)
  CONTENT_FILTER        local, azure (with CONTENT_SAFETY_ENDPOINT) or off: who looks at prompts and answers (local)
  COLLECT_CONTENT       true: masked prompts and answers may be kept, if the collection `content` is on (false)

What is kept about requests, and when: collect.py. Each answer has an id in its header `x-answer-id`; to say what was
thought of it, send {"feedback": {"id": …, "rating": "up" or "down"}} to the same address.
"""

import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import TimeoutError as Late
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

# Before torch comes in: without it, the matrix library under CPU attention rounds by where its buffers lie, and about
# one answer in three (64 tokens, untuned model) depended on its neighbours in the batch. Costs nothing measurable.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# So that no installed package of the same name is taken for a sibling of this file.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import flask
from admission import Admission, Full
from answering import CONTENT_FILTER, FAILED, TOO_LATE, UNDECIDED, Gone, answered, held_back, problem, streamed, written
from checks import BadRequest
from collect import FEEDBACK, Turn
from collect import start as start_collecting
from decoding import Request
from guard import Blocked, check_answer, check_prompts, label, looking
from hangups import let_go_of_who_stalls
from prompts import PromptError
from replies import Answer, Heading
from screen import Finding, Undecided
from sending import Reply, connection, response, seconds, told
from service import Service, load, model_folder
from wire import Call, parse
from writing import Writer

log = logging.getLogger("azmlinfsrv.serving")
BUSY = "This deployment has all the requests it can take; send it again after the seconds in Retry-After."
CLOSING = "This server is being stopped and takes no new requests; send it again."
GONE_STATUS = 499  # nginx's "client closed request": for the log, nobody else sees it

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
    _close_when_stopped(service.admission)
    let_go_of_who_stalls(service.patience)
    log.info("model %s ready in %.1f s", service.name, time.perf_counter() - start)
    log.info("content filter: %s. %s", service.screen.mode, service.screen.sees)


def run(body: str) -> flask.Response:
    """Answer one request body; a caller's mistake is a 4xx with one sentence, a failure of ours a 5xx with one."""
    try:
        assert service is not None, "init() has not run"  # noqa: S101
        if FEEDBACK.match(body):
            return _sent(Reply(take_feedback(service, body)))
        return _sent(respond(service, body, uuid.uuid4().hex, connection()))
    except Exception as error:
        return _refusal(error)


def take_feedback(to: Service, body: str) -> Any:
    """The JSON reply to somebody's opinion of an earlier answer. Raises BadRequest."""
    if said := to.collecting.feedback(body) if to.collecting else "This deployment keeps no feedback.":
        raise BadRequest(said, "feedback")
    return {"feedback": "noted"}


def respond(to: Service, body: str, identity: str = "", client: socket.socket | None = None) -> Reply:
    """The reply to a request body. `identity`: what its answers are called where kept; `client`: who may hang up.

    Raises BadRequest, Full, Blocked, Undecided, Gone, concurrent.futures.TimeoutError, and what the model raised.
    """
    deadline = time.monotonic() + to.timeout
    call = parse(body, to.limits)
    with ExitStack() as held:
        held.enter_context(to.admission.place(len(call.conversations)))
        prompts = _encoded(to, call)
        _screened(to, call, identity, prompts)
        follow = call.stream or bool(call.stops)
        requests = [to.batcher.submit(prompt, call.sampling, follow) for prompt in prompts]
        let_go = partial(_let_go, requests)
        held.callback(let_go)  # after a failure or a time-out nobody wants the rest
        held.enter_context(to.hangups.watch(client, let_go))
        heading = Heading(identity, to.name)
        if call.stream:
            writer = Writer(to.prompts.decode, call.stops)
            pieces = written(requests[0], writer, deadline)
            pieces = chain([next(pieces)], pieces)  # what fails before the first token has a status of its own
            pieces = held_back(pieces, looking(to.screen), _window(to, call))
            done = partial(_took_note, to, call, identity, requests)
            events = streamed(
                pieces, requests[0], writer, heading, usage=call.usage, done=lambda *answer: done([answer])
            )
            return Reply(events, told(identity, requests), held.pop_all().close)
        answers = answered(requests, to.prompts.decode, call.stops, deadline)
    checked = [check_answer(to.screen, answer) for answer in answers]
    _took_note(to, call, identity, requests, checked)
    answers = [answer for answer, _ in checked]
    return Reply(call.reply(answers, heading), told(identity, requests, answers))


def _encoded(to: Service, call: Call) -> list[list[int]]:
    room = to.context - call.sampling.max_tokens
    limit = min(room, to.max_input or room)
    try:
        prompts = [to.prompts.encode(messages) for messages in call.conversations]
    except PromptError as error:
        raise BadRequest(str(error), call.field) from None
    if (longest := max(map(len, prompts))) > limit:
        asked = f"an answer of {call.sampling.max_tokens}"
        sentence = f"The prompt has {longest} tokens; with {asked} at most {limit} fit this deployment."
        raise BadRequest(sentence, call.field, 413)
    return prompts


def _screened(to: Service, call: Call, identity: str, prompts: Sequence[list[int]]) -> None:
    try:
        check_prompts(to.screen, call.conversations)
    except Blocked as blocked:
        if to.collecting and not call.ours:
            asked = call.conversations[blocked.at], prompts[blocked.at]
            to.collecting.offer(Turn(identity, *asked, "", 0, CONTENT_FILTER, label(blocked.finding)))
        raise


def _window(to: Service, call: Call) -> float:
    """Characters of a stream that wait for what follows them. Probabilities are told beside their tokens, so with them
    all of an answer waits."""
    return math.inf if call.sampling.logprobs and to.screen.window else to.screen.window


def _let_go(requests: Sequence[Request]) -> None:
    for request in requests:
        request.abandoned = True


def _took_note(
    to: Service,
    call: Call,
    identity: str,
    requests: Sequence[Request],
    checked: Sequence[tuple[Answer, Finding | None]],
) -> None:
    for request in requests:
        to.admission.measured(seconds(request))
    if not to.collecting or call.ours:
        return
    turns = zip(call.conversations, requests, checked, strict=True)
    for at, (messages, request, (answer, finding)) in enumerate(turns):
        named = f"{identity}-{at}" if at else identity
        facts = (answer.text, answer.completion_tokens, answer.finish_reason)
        to.collecting.offer(Turn(named, messages, request.prompt, *facts, label(finding)))


def _refusal(error: Exception) -> flask.Response:
    """What the caller hears instead of an answer (docs/serving.md has the table)."""
    headers: dict[str, str] = {}
    if isinstance(error, Blocked):
        return _sent(Reply({"error": error.problem}), 400)
    match error:
        case BadRequest():
            said = problem(error.status, str(error), error.field)
        case Full():
            said = problem(503, CLOSING) if error.closing else problem(429, BUSY)
            headers["Retry-After"] = str(error.seconds)
        case Gone():
            said = problem(GONE_STATUS, "The client closed its connection.")
        case Undecided():
            log.warning("%s", error)
            said = problem(503, UNDECIDED)
            headers["Retry-After"] = str(error.retry_after)
        case Late():
            said = problem(504, TOO_LATE)
        case _:
            log.error("a request failed", exc_info=error)
            said = problem(500, FAILED)
    return _sent(Reply({"error": said}, headers), said["code"])


def _sent(reply: Reply, status: int = 200) -> flask.Response:
    return response(reply, status, service.name if service else "", service.digest if service else "")


def _close_when_stopped(admission: Admission) -> None:
    """On SIGTERM the server answers what it has; from then on nothing new goes to the model."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):  # no server around us that would stop gracefully
        return

    def stop(number: int, frame: Any) -> None:
        admission.closed = True
        before(number, frame)

    signal.signal(signal.SIGTERM, stop)
