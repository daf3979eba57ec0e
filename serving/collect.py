"""Hands rows about requests to Azure ML's data collector: who asked gets the answer first, and never waits for this.

Three collections, switched by the deployment's `data_collector` and sampled there:
  statistics  numbers about each request (describe.py), never a word of it
  content     prompts and answers, masked (masking.py); also needs COLLECT_CONTENT=true in the environment
  feedback    thumbs up or down, under the id that the answer carried in its header `x-answer-id`

A request only puts what is known of it into a bounded queue; one thread works out the rows and gives a second's worth
of them to the collector at once. A full queue, a collector that is away or slow, a row that fails: rows are lost and
counted in the log, requests are not. A server that is stopped loses the rows of its last second.
"""

import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from describe import Vocabulary, schema_checker, statistics
from masking import masked

log = logging.getLogger("azmlinfsrv.serving")

NAMES = ("statistics", "content", "feedback")
AT_MOST = 4096  # turns that may wait
SECONDS, ROWS, CHARACTERS = 1.0, 200, 150_000  # of a batch: the collector files what is over 256 kB elsewhere
LONGEST = 20_000  # characters of one message that `content` keeps
FEEDBACK = re.compile(r'\s*\{\s*"feedback"\s*:')
IDENTITY = re.compile(r"[0-9a-f]{32}(?:-\d{1,2})?")
Row = dict[str, Any]
Send = Callable[[list[Row]], bool]  # False: the collector did not take them


@dataclass(frozen=True)
class Turn:
    """One prompt with its answer, as the request's thread knows them."""

    id: str
    messages: list[dict[str, str]]
    prompt: list[int]
    answer: str
    answer_tokens: int
    finish_reason: str
    filtered: str = ""  # what the content filter found (guard.told); "" for nothing


class Collecting:
    """`send` has a function for each collection that is on. Starts its thread."""

    def __init__(self, tokenizer: Any, model: str, send: Mapping[str, Send], schema: str = "") -> None:
        self.tokenizer, self.model, self.send = tokenizer, model, send
        self.checker = schema_checker(schema)
        self.lost = 0
        self._queue: queue.Queue[Turn | Row] = queue.Queue(AT_MOST)
        threading.Thread(target=self._run, name="collecting", daemon=True).start()

    def offer(self, turn: Turn) -> None:
        """Take note of an answer; returns at once, whatever happens."""
        if "statistics" in self.send or "content" in self.send:
            self._put(turn)

    def feedback(self, body: str) -> str:
        """Take note of {"feedback": {"id": …, "rating": "down"}}. Returns what is wrong with it, or ""."""
        if "feedback" not in self.send:
            return "This deployment keeps no feedback: its collection `feedback` is off."
        try:
            given = json.loads(body)
            told = given["feedback"] if set(given) == {"feedback"} else {}
            identity, rating = (told["id"], told["rating"]) if set(told) == {"id", "rating"} else ("", "")
        except (ValueError, TypeError, KeyError, RecursionError):
            identity, rating = "", ""
        if not isinstance(identity, str) or not IDENTITY.fullmatch(identity) or rating not in ("up", "down"):
            return 'Feedback is {"feedback": {"id": the answer\'s x-answer-id, "rating": "up" or "down"}}.'
        self._put({"id": identity, "rating": rating})
        return ""

    def _put(self, what: "Turn | Row") -> None:
        try:
            self._queue.put_nowait(what)
        except queue.Full:
            self.lost += 1

    def _run(self) -> None:
        vocabulary: Vocabulary | None = None
        told = 0
        while True:
            try:
                batch = self._batch()
                vocabulary = vocabulary or Vocabulary(self.tokenizer)
                for name, rows in self._rows(batch, vocabulary).items():
                    self._hand_over(name, rows)
            except Exception as error:  # named by its kind alone: its sentence may hold words of a request
                self.lost += 1
                log.warning("collecting failed: %s", type(error).__name__)
            if self.lost > told:
                told = self.lost
                log.warning("%d rows about requests were lost so far", told)

    def _batch(self) -> list[Turn | Row]:
        """What arrives within a second of the first."""
        found, until = [self._queue.get()], time.monotonic() + SECONDS
        while len(found) < ROWS and (left := until - time.monotonic()) > 0:
            try:
                found.append(self._queue.get(timeout=left))
            except queue.Empty:
                break
        return found

    def _rows(self, batch: "list[Turn | Row]", vocabulary: Vocabulary) -> dict[str, list[Row]]:
        rows: dict[str, list[Row]] = {name: [] for name in self.send}
        for each in batch:
            try:
                made = self._made(each, vocabulary)
            except Exception as error:
                self.lost += 1
                log.warning("a row about a request could not be made: %s", type(error).__name__)
                continue
            for name, row in made.items():
                if name in rows:
                    rows[name].append({**row, "model": self.model})
        return rows

    def _made(self, each: "Turn | Row", vocabulary: Vocabulary) -> dict[str, Row]:
        if not isinstance(each, Turn):
            return {"feedback": each}
        made: dict[str, Row] = {}
        if "statistics" in self.send:
            numbers = statistics(each.messages, each.prompt, each.answer, vocabulary, self.checker)
            if each.filtered:  # nobody saw an answer, so nothing is known of it
                numbers |= {"valid": None, "refused": False}
            ended = {"answer_tokens": each.answer_tokens, "finish_reason": each.finish_reason}
            numbers["filtered"] = each.filtered
            made["statistics"] = {"id": each.id, **numbers, **ended}
        if "content" in self.send and not each.filtered:
            kept = [{"role": m["role"], "content": masked(m["content"][:LONGEST])} for m in each.messages]
            made["content"] = {"id": each.id, "messages": kept, "answer": masked(each.answer[:LONGEST])}
        return made

    def _hand_over(self, name: str, rows: list[Row]) -> None:
        part: list[Row] = []
        size = 0
        for row in rows:
            length = len(json.dumps(row))
            if length > CHARACTERS:
                self.lost += 1
                continue
            if size + length > CHARACTERS:
                self._send(name, part)
                part, size = [], 0
            part.append(row)
            size += length
        if part:
            self._send(name, part)

    def _send(self, name: str, rows: list[Row]) -> None:
        if not self.send[name](rows):
            self.lost += len(rows)


def start(tokenizer: Any, model_root: str) -> Collecting | None:
    """What the deployment's settings switch on, None when that is nothing. Never raises for want of a collector."""
    if not os.environ.get("AZUREML_MDC_CONFIG_PATH") and os.environ.get("AZUREML_MDC_ENABLED", "").lower() != "true":
        return None
    try:
        wanted = [n for n in NAMES if n != "content" or os.environ.get("COLLECT_CONTENT", "").lower() == "true"]
        send = {name: found for name in wanted if (found := _collector(name))}
        # AZUREML_MODEL_DIR ends in NAME/VERSION.
        model = ":".join(Path(model_root).parts[-2:])
        return Collecting(tokenizer, model, send, os.environ.get("ANSWER_SCHEMA", "")) if send else None
    except Exception as error:
        log.warning("nothing is collected about requests: %s", error)
        return None


def _collector(name: str) -> Send | None:
    """The collection's own way out; None when the deployment does not have it on."""
    import pandas as pd
    from azureml.ai.monitoring import Collector

    problems: list[Exception] = []
    collector = Collector(name=name, on_error=problems.append)
    if problems:
        return None

    def send(rows: list[Row]) -> bool:
        problems.clear()
        collector.collect(pd.DataFrame(rows))
        return not problems

    return send
