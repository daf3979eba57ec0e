"""Groundedness, relevance, coherence and fluency, 1 to 5, by a judge model with the engine's own prompts.

The library asks, and we hold it to three things: a judgement that cannot be read is an error and not a number, trouble
on the way is told from that, and the answer comes within a stated time whatever the library's own patience.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from eval.errors import EvalError, InfraError
from eval.evaluators.judge_text import Heard, inert, read
from eval.evaluators.remote import address, all_at_once, token
from eval.metrics import Judge, Metrics
from eval.promptflow_home import prepare, stand_in_for_nltk_data

ENDPOINT, KEY = "MLOPS_JUDGE_ENDPOINT", "MLOPS_JUDGE_KEY"
WORST = 1.0  # of an empty answer, which is not put to the judge: there is nothing in it to judge
NO_CONTEXT = "(none)"  # promptflow-evals' relevance wants one
NEEDS = {"groundedness": "context", "relevance": "query", "coherence": "query", "fluency": "query"}
NOT_A_JUDGEMENT = {400, 422}  # the judge was reached and would not judge this; any other status is about the way there
RENEW_AFTER = 500  # judgements with one Entra token, which lives an hour


@dataclass(frozen=True)
class Library:
    """How an engine's library calls our columns, and which it takes for what."""

    module: str
    columns: Mapping[str, str]
    takes: Mapping[str, tuple[str, ...]]


LIBRARIES = {
    "promptflow-evals": Library(
        "promptflow.evals.evaluators",
        {"query": "question", "answer": "answer", "context": "context"},
        {
            "groundedness": ("answer", "context"),
            "relevance": ("query", "answer", "context"),
            "coherence": ("query", "answer"),
            "fluency": ("query", "answer"),
        },
    ),
    "azure-ai-evaluation": Library(
        "azure.ai.evaluation",
        {"query": "query", "answer": "response", "context": "context"},
        {
            "groundedness": ("answer", "context"),
            "relevance": ("query", "answer"),
            "coherence": ("query", "answer"),
            "fluency": ("answer",),
        },
    ),
}
Columns = tuple[str, str, str]  # query, answer, context


class Judgement:
    """One of the four metrics. It does not apply to an answer without context (groundedness) or query (the others)."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        if metrics.judge is None:
            raise EvalError(f"{name} needs a judge model; add `judge` to the metrics file.")
        self._name, self._engine, self._judge = name, metrics.engine, metrics.judge
        self._scores: dict[Columns, float] = {}
        self._base_url = _base_url(metrics.judge)  # so that a missing address is said before anything is asked

    def prime(self, rows: Sequence[Mapping[str, str]], progress: Callable[[int, int], None]) -> None:
        asked = dict.fromkeys((row["query"], row["answer"], row["context"]) for row in rows)
        keys = [key for key in asked if key not in self._scores and self._applies(key) and key[1].strip()]
        for start in range(0, len(keys), RENEW_AFTER):
            part, before = keys[start : start + RENEW_AFTER], start

            def tell(done: int, _total: int, before: int = before) -> None:
                progress(before + done, len(keys))

            with _quiet():
                self._scores.update(all_at_once(self._asker(), part, self._judge.at_once, tell))

    def __call__(self, *, query: str, answer: str, context: str) -> dict[str, float]:
        key = (query, answer, context)
        if not self._applies(key):
            return {}
        if not answer.strip():
            return {self._name: WORST}
        if key not in self._scores:
            self.prime([{"query": query, "answer": answer, "context": context}], lambda _done, _total: None)
        return {self._name: self._scores[key]}

    def _applies(self, key: Columns) -> bool:
        return bool(key[2 if NEEDS[self._name] == "context" else 0].strip())

    def _asker(self) -> Callable[[Columns], float]:
        library = LIBRARIES[self._engine]
        home = prepare()
        if self._engine == "promptflow-evals":
            stand_in_for_nltk_data(home)
        configuration = _configuration(self._engine, self._judge.model, self._base_url, _key(self._judge))
        kind = getattr(import_module(library.module), f"{self._name.capitalize()}Evaluator")

        def ask(key: Columns) -> float:
            values = dict(zip(("query", "answer", "context"), (*key[:2], key[2].strip() or NO_CONTEXT), strict=True))
            given = {library.columns[name]: inert(values[name]) for name in library.takes[self._name]}
            evaluator = kind(configuration)
            flow_of = evaluator._to_async() if self._engine == "promptflow-evals" else evaluator
            flow_of._flow = heard = Heard(flow_of._flow)
            try:
                asyncio.run(asyncio.wait_for(evaluator._to_async()(**given), self._judge.patience_s))
            except Exception as error:
                # A reply was heard and only the library could not read it: we say so below, in our own words.
                if not heard.replies:
                    raise self._sorted_out(error) from error
            return self._read(heard.replies)

        return ask

    def _read(self, replies: list[Any]) -> float:
        score = read(replies[-1]) if replies else None
        if score is None:
            said = " ".join(str(replies[-1] if replies else "").split())[:120]
            raise EvalError(
                f"{self._judge.model} gave no {self._name} from 1 to 5 but {said!r}; choose a judge that follows it."
            )
        return score

    def _sorted_out(self, error: Exception) -> EvalError:
        """Our error for the library's: what came of the request is somewhere among its causes."""
        import openai

        what = f"The judge {self._judge.model}"
        for cause in _causes(error):
            if isinstance(cause, EvalError):
                return cause
            if isinstance(cause, json.JSONDecodeError):
                return EvalError(f"{what} gave no {self._name} from 1 to 5 but {cause.doc[:120]!r}.")
            if isinstance(cause, openai.APIStatusError):
                said = " ".join(str(cause.message).split())[:200]
                kind = EvalError if cause.status_code in NOT_A_JUDGEMENT else InfraError
                return kind(f"{what} did not judge {self._name}: HTTP {cause.status_code}: {said}")
            if isinstance(cause, openai.APIConnectionError):
                return InfraError(f"{what} cannot be reached at {self._base_url}: {cause.__cause__ or cause}")
            if isinstance(cause, TimeoutError):
                return InfraError(
                    f"{what} gave no {self._name} within {self._judge.patience_s:g} s (judge.patience_s)."
                )
        return EvalError(f"{what} did not judge {self._name}: {str(error).splitlines()[0] if str(error) else error!r}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _base_url(judge: Judge) -> str:
    found = address(ENDPOINT, "the judge model")
    # Azure OpenAI's v1 API takes an Entra token where OpenAI's takes a key, so one client serves both.
    resource_alone = judge.service == "azure-openai" and found.count("/") == len("//")
    return f"{found}/openai/v1" if resource_alone else found


def _key(judge: Judge) -> str:
    if judge.service == "azure-openai":
        return token()
    return os.environ.get(KEY) or "none"  # a server that asks for none still gets a header


def _configuration(engine: str, model: str, base_url: str, key: str) -> Any:
    if engine == "promptflow-evals":
        from promptflow.core import OpenAIModelConfiguration

        return OpenAIModelConfiguration(model=model, base_url=base_url, api_key=key)
    return {"type": "openai", "model": model, "base_url": base_url, "api_key": key}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both libraries log a traceback for each try; what came of it in the end is ours to say."""
    names = ("promptflow", "promptflow.core", "promptflow.core._prompty_utils", "azure.ai.evaluation", "execution.bulk")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
