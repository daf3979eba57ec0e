"""One thread that owns the model; requests from the server's threads join its running batch and leave it when done.

Rows [0, n) of the engine are in use. When a request ends, the last row moves into its place, so that the batch stays
dense; when requests wait and rows are free, they are prefilled together and decode along from the next token on.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from decoding import Request, Sampling, choose

log = logging.getLogger("azmlinfsrv.serving")


class Batcher:
    """Ready, or raising what `make_engine` raised, when the constructor returns.

    `make_engine` runs in the model's thread and is to do there all that torch computes, loading included: once a second
    thread of a process has used OpenMP, libgomp's workers sleep between any two operations (×1.5 time on two cores).
    `wait_seconds`: how long an idle model waits for company after the first request of a burst, at most. `coming` says
    how many requests the server has, those included that were not handed in yet: when all are here it waits no longer.
    """

    def __init__(
        self,
        make_engine: Callable[[], Any],
        max_batch: int = 16,
        wait_seconds: float = 0.01,
        coming: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.make_engine, self.max_batch, self.wait_seconds, self.coming = make_engine, max_batch, wait_seconds, coming
        self.engine: Any = None
        self.inbox: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self.waiting: list[Request] = []
        self.active: list[Request] = []
        ready: Future[None] = Future()
        threading.Thread(target=self._run, args=(ready,), name="model", daemon=True).start()
        ready.result()

    def submit(self, prompt: list[int], sampling: Sampling, follow: bool = False) -> Request:
        """Queue a prompt; `request.done.result(timeout)` waits for it and raises what the model thread raised.

        `follow`: each token is also put into `request.tokens` at once, and None behind the last one.
        """
        request = Request(prompt, sampling, tokens=queue.SimpleQueue() if follow else None)
        self.inbox.put(request)
        return request

    def _run(self, ready: Future[None]) -> None:
        try:
            self.engine = self.make_engine()
            ready.set_result(None)
        except BaseException as error:
            ready.set_exception(error)
            return
        while True:
            try:
                self._collect()
                if self.waiting and len(self.active) < self.max_batch:
                    self._admit()
                if self.active:
                    self._step()
            except Exception as error:  # the requests at hand fail with it, the next ones find a fresh engine
                log.exception("the model failed on a batch of %d", len(self.active))
                hit, self.active, self.waiting = [*self.active, *self.waiting], [], []
                for request in hit:
                    if not request.done.done():
                        request.end(error)
                self.engine = self.make_engine()

    def _collect(self) -> None:
        """Move what has arrived to `waiting`; sleep only when there is nothing to do."""
        if not self.active and not self.waiting:
            self.waiting.append(self.inbox.get())
            until = time.monotonic() + self.wait_seconds
            while len(self.waiting) < min(self.max_batch, self.coming()) and (left := until - time.monotonic()) > 0:
                try:
                    self.waiting.append(self.inbox.get(timeout=left))
                except queue.Empty:
                    break
        while not self.inbox.empty():
            self.waiting.append(self.inbox.get())
        for request in self.waiting:
            if request.abandoned:
                request.finish_reason = "cancelled"
                request.end()
        self.waiting = [r for r in self.waiting if not r.finish_reason]

    def _admit(self) -> None:
        free = self.max_batch - len(self.active)
        # First come, first served; within the group, like lengths side by side need the least padding.
        group, self.waiting = sorted(self.waiting[:free], key=lambda r: len(r.prompt)), self.waiting[free:]
        start, first = time.perf_counter(), len(self.active)
        self.active += group
        began = time.monotonic()
        for request in group:
            request.started = began
        logits, reused = self.engine.prefill(first, [r.prompt for r in group])
        self._append(choose(logits, group), group)
        self._release()
        size, milliseconds = sum(len(r.prompt) for r in group), (time.perf_counter() - start) * 1000
        log.info("batch +%d (%d tokens, %d reused) in %.0f ms", len(group), size, reused, milliseconds)

    def _step(self) -> None:
        logits = self.engine.decode([r.answer[-1] for r in self.active], [r.length() for r in self.active])
        self._append(choose(logits, self.active), self.active)
        self._release()

    def _append(self, tokens: list[int], requests: Sequence[Request]) -> None:
        for request, token in zip(requests, tokens, strict=True):
            request.answer.append(token)
            if token in self.engine.stop_ids:
                request.answer.pop()
                del request.logprobs[len(request.answer) :]
                request.finish_reason = "stop"
            elif len(request.answer) >= request.sampling.max_tokens:
                request.finish_reason = "length"
            elif request.abandoned:
                request.finish_reason = "cancelled"
            if request.tokens is not None and request.finish_reason != "stop":
                request.tokens.put(token)

    def _release(self) -> None:
        """Answer what is finished and close the gaps, last row first."""
        for row in reversed(range(len(self.active))):
            request = self.active[row]
            if not request.finish_reason:
                continue
            last = self.active.pop()
            if last is not request:
                self.active[row] = last
                self.engine.rows.move(len(self.active), row, last.length())
            request.end()
