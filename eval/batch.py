"""Runs the flow over many rows: one at a time (lines.py) in each of a pool of our threads.

Not promptflow's batch run: that keeps a database, writes files for each row and looks every second whether it is done.
One row through promptflow's executor costs some milliseconds, in plain Python half of that (tests/bench/evaluation.py).
"""

import contextlib
import os
import queue
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from eval.errors import EvalError
from eval.flow import FLOW
from eval.lines import By, Row, line

ATTENTION = 0.0005  # seconds that a busy thread may keep an arriving answer waiting; Python's own is ten times that
TICK = 0.5  # seconds between two looks at how far it is


class Flow:
    """The flow, loaded once. Raises EvalError when it cannot be loaded."""

    def __init__(self, flow: Path = FLOW, by: By = "promptflow") -> None:
        self._line = line(flow, by)

    def run(
        self,
        rows: Sequence[Mapping[str, Any]],
        environment: Mapping[str, str],
        *,
        concurrency: int,
        on_output: Callable[[int, Row], bool],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Put the rows (the flow's inputs) through it, `concurrency` at a time, with `environment` set meanwhile.

        `on_output` gets a row's number and outputs the moment they are there, in this thread; when it returns False no
        further row is started. Raises EvalError when the flow gave a row no output: it turns every failure of the
        endpoint into one, so that is a defect or a wrong input. What else was under way is waited for first.
        """
        done: queue.SimpleQueue[tuple[int, Future[Row]]] = queue.SimpleQueue()
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="flow")
        with _environment(environment), _streams(), _attention():
            for number, row in enumerate(rows):
                future = pool.submit(self._line, row, number)
                future.add_done_callback(lambda ended, number=number: done.put((number, ended)))  # type: ignore[misc]
            try:
                self._collect(done, len(rows), pool, on_output, tick)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                _keep(done, on_output)  # what came while we were interrupted
                raise
            pool.shutdown()

    @staticmethod
    def _collect(
        done: "queue.SimpleQueue[tuple[int, Future[Row]]]",
        waiting: int,
        pool: ThreadPoolExecutor,
        on_output: Callable[[int, Row], bool],
        tick: Callable[[], None],
    ) -> None:
        defect: EvalError | None = None
        while waiting:
            tick()
            try:
                number, ended = done.get(timeout=TICK)
            except queue.Empty:
                continue
            waiting -= 1
            if ended.cancelled():
                continue
            error = ended.exception()
            if isinstance(error, EvalError):
                defect = defect or error
            elif error is not None:
                raise error
            if error or not on_output(number, ended.result()):
                pool.shutdown(wait=False, cancel_futures=True)
        tick()
        if defect:
            raise defect


def _keep(done: "queue.SimpleQueue[tuple[int, Future[Row]]]", on_output: Callable[[int, Row], bool]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            number, ended = done.get_nowait()
            if not ended.cancelled() and not ended.exception():
                on_output(number, ended.result())


@contextlib.contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """promptflow puts a recorder in the place of stdout and stderr for each row, and rows at a time leave it there."""
    before = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def _attention() -> Iterator[None]:
    """Whatever else this process does meanwhile must not look like the model's latency: at 200 ms an answer, the engine
    being imported beside it made a p95 of 350 ms out of one of 213; with this, 210."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(ATTENTION)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
