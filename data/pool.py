"""Pieces of work on all cores, results in order, never more than a few pieces under way."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context
from typing import Any, TypeVar

from data.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")
_CONTEXT: list[Any] = []


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def mapped(
    work: Callable[[Item, Any], Result], items: Iterable[Item], context: Any, workers: int | None = None
) -> Iterator[Result]:
    """`work(item, context)` for each item, in order. One or two items are done here: a process would cost more.

    `context` is sent to each worker once. An error of a worker's is raised here.
    """
    items = iter(items)
    few = list(islice(items, 3))
    workers = cores() if workers is None else workers
    if len(few) < 3 or workers < 2:
        yield from (work(item, context) for item in chain(few, items))
        return
    # Fresh processes: a fork of one that has threads (tokenizers, Arrow, the SDK) may hang.
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (context,)) as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for item in chain(few, items):
                under_way.append(pool.submit(_do, work, item))
                if len(under_way) > 2 * workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "A worker process was killed, probably for want of memory; free some and run again."
            ) from error
        finally:
            for future in under_way:
                future.cancel()


def _begin(context: Any) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process a core is enough
    _CONTEXT[:] = [context]


def _do(work: Callable[[Item, Any], Result], item: Item) -> Result:
    return work(item, _CONTEXT[0])
