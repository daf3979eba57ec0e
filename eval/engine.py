"""Runs evaluators over answers through an evaluation library; the only file that knows how each is started.

promptflow-evals today, azure-ai-evaluation by `engine` in metrics.yaml: the same callables, the same numbers.
"""

import contextlib
import functools
import inspect
import io
import json
import logging
import math
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from eval.errors import EvalError, InfraError
from eval.evaluators import COLUMNS, Evaluator, Primed, build
from eval.metrics import DEFAULT_METRICS, Engine, Metrics, load_metrics
from eval.promptflow_home import prepare

# Both libraries wait for an evaluator in the thread pool that runs its rows, whose size is the number of CPUs and four:
# more evaluators than that at once and they wait for ever.
AT_ONCE = 4
APPLIES = "applies"  # a metric beside the evaluator's own: 1, or 0 where it said nothing; a failure leaves a gap
Progress = Callable[[str, int, int], None]  # evaluator, done, total
Start = Callable[[str, Mapping[str, Evaluator]], list[dict[str, Any]]]  # data file, evaluators → rows


def score_answers(
    answers: Sequence[Mapping[str, str]], metrics: Metrics | None = None, progress: Progress | None = None
) -> list[dict[str, float]]:
    """The metrics of each answer, in order. `answers` are rows with the columns of `eval.evaluators`.

    A metric is called by its evaluator's name when they are the same, else EVALUATOR.METRIC; one that does not apply to
    an answer is not in its row. Raises EvalError when an evaluator failed or gave something other than a finite number
    on any row, its InfraError when a service could not be reached: no score is made up.
    """
    metrics = metrics or load_metrics(DEFAULT_METRICS)
    return run(answers, build(metrics), metrics.engine, progress)


def run(
    answers: Sequence[Mapping[str, str]],
    evaluators: Mapping[str, Evaluator],
    engine: Engine = "promptflow-evals",
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """As `score_answers`, with the evaluators at hand."""
    if not answers:
        raise EvalError("There are no answers to score.")
    rows = [{column: str(answer.get(column, "")) for column in COLUMNS} for answer in answers]
    start = STARTS[engine]()
    for name, evaluator in evaluators.items():
        _prime(name, evaluator, rows, progress)
    scored: list[dict[str, float]] = [{} for _ in rows]
    # pandas turns a column of nothing but number-like strings into numbers; one row of words, which no answer can be,
    # keeps it text.
    anchor = f"words {uuid.uuid4().hex}"
    anchored = [*rows, dict.fromkeys(COLUMNS, anchor)]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "answers.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in anchored), encoding="utf-8")
        pending = iter(evaluators.items())
        while group := [_Watched(name, evaluator, anchor) for name, evaluator in islice(pending, AT_ONCE)]:
            found = _started(start, str(data), {each.name: each.function for each in group})
            for given, into in zip(found, scored, strict=False):  # the last row found is the anchor's
                for each in group:
                    into.update(each.metrics(given, rows))
    return scored


def _started(start: Start, data: str, functions: Mapping[str, Evaluator]) -> list[dict[str, Any]]:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # both print their own summary
            return start(data, functions)
    except Exception as error:  # not an evaluator's: the library keeps those to itself
        raise EvalError(f"{', '.join(functions)} could not be run: {_first_line(error)}") from error


def _prime(name: str, evaluator: Evaluator, rows: Sequence[Mapping[str, str]], progress: Progress | None) -> None:
    if not isinstance(evaluator, Primed):
        return
    try:
        evaluator.prime(rows, functools.partial(progress or _silent, name))
    except EvalError:
        raise
    except Exception as error:
        raise EvalError(f"Evaluator {name} failed: {_first_line(error)}") from error


class _Watched:
    """An evaluator that remembers how it failed, as the libraries only leave a gap in the row."""

    def __init__(self, name: str, evaluator: Evaluator, anchor: str) -> None:
        self.name, self._evaluator, self._anchor = name, evaluator, anchor
        self._failed: tuple[dict[str, str], Exception] | None = None

        def function(**columns: str) -> dict[str, float]:
            return self._call(columns)

        function.__signature__ = inspect.signature(evaluator)  # type: ignore[attr-defined]  # where columns are read
        self.function: Evaluator = function

    def _call(self, columns: dict[str, str]) -> dict[str, float]:
        if self._failed:  # one is enough: no waiting for a service that is not there, row after row
            raise self._failed[1]
        if all(value == self._anchor for value in columns.values()):
            return {APPLIES: 0.0}
        try:
            given = self._evaluator(**columns)
            for metric, value in given.items():
                if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                    raise EvalError(f"no finite number for {metric} but {value!r:.80}")
            return {**given, APPLIES: float(bool(given))}
        except Exception as error:
            self._failed = self._failed or (columns, error)
            raise

    def metrics(self, given: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
        """This evaluator's metrics in a row of the library's result. Raises EvalError when it failed on any."""
        if self._failed:
            columns, error = self._failed
            if isinstance(error, InfraError):
                raise error
            number = next(i for i, row in enumerate(rows, 1) if columns.items() <= row.items())
            raise EvalError(f"Evaluator {self.name} failed on answer {number}: {_first_line(error)}") from error
        prefix = f"outputs.{self.name}."
        found = {column.removeprefix(prefix): value for column, value in given.items() if column.startswith(prefix)}
        if found.get(APPLIES) not in {0.0, 1.0}:
            raise EvalError(f"Evaluator {self.name} was not run on every answer.")
        return {
            self.name if metric == self.name else f"{self.name}.{metric}": float(value)
            for metric, value in found.items()
            if metric != APPLIES and value is not None and math.isfinite(value)
        }


def _promptflow_evals() -> Start:
    prepare()
    import promptflow.evals.evaluate._evaluate as module

    # With tracing off it would import an Azure package that is not there to log to a workspace that is not given.
    module._log_metrics_and_instance_results = lambda *_args, **_options: None
    logging.getLogger("promptflow.evals").setLevel(logging.ERROR)

    def start(data: str, evaluators: Mapping[str, Evaluator]) -> list[dict[str, Any]]:
        # In-process client: the same numbers as the batch client without a process pool and a database row per run.
        config = {"default": _COLUMNS}
        result = module.evaluate(data=data, evaluators=evaluators, evaluator_config=config, _use_pf_client=False)
        return list(result["rows"])

    return start


def _azure_ai_evaluation() -> Start:
    prepare()  # parts of promptflow are imported where it is installed
    from azure.ai.evaluation import evaluate

    logging.getLogger("azure.ai.evaluation").setLevel(logging.ERROR)

    def start(data: str, evaluators: Mapping[str, Evaluator]) -> list[dict[str, Any]]:
        result = evaluate(
            data=data,
            evaluators=dict(evaluators),
            evaluator_config={"default": {"column_mapping": _COLUMNS}},
            _use_pf_client=False,
            _use_run_submitter_client=False,
        )
        return list(result["rows"])

    return start


_COLUMNS = {column: f"${{data.{column}}}" for column in COLUMNS}
STARTS: dict[Engine, Callable[[], Start]] = {
    "promptflow-evals": _promptflow_evals,
    "azure-ai-evaluation": _azure_ai_evaluation,
}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _silent(_name: str, _done: int, _total: int) -> None:
    pass
