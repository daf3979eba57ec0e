"""Runs evaluators over answers through promptflow-evals' `evaluate`; the only file that knows that library."""

import contextlib
import io
import json
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.errors import EvalError
from eval.evaluators import EVALUATORS, Evaluator
from eval.promptflow_home import prepare, stand_in_for_nltk_data

# pandas turns a column of nothing but number-like strings into numbers; one row of plain words keeps it text.
ANCHOR = {"answer": "plain words", "expected": "plain words"}


def score_answers(
    answers: Sequence[Mapping[str, str]], evaluators: Mapping[str, Evaluator] = EVALUATORS
) -> list[dict[str, float]]:
    """The metrics of each answer, in order. `answers` are rows with the columns `answer` and `expected`.

    A metric is called by its evaluator's name when they are the same, else EVALUATOR.METRIC. Raises EvalError when an
    evaluator failed or gave something other than a finite number on any row: no score is made up.
    """
    if not answers:
        raise EvalError("There are no answers to score.")
    evaluate = _load()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "answers.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in [*answers, ANCHOR]), encoding="utf-8")
        # In-process client: the same numbers as the batch client without a process pool and a database row per run.
        with contextlib.redirect_stdout(io.StringIO()):
            result = evaluate(
                data=str(data),
                evaluators=dict(evaluators),
                evaluator_config={"default": {"answer": "${data.answer}", "expected": "${data.expected}"}},
                _use_pf_client=False,
            )
    rows: list[dict[str, Any]] = result["rows"][:-1]
    return [_metrics(row, evaluators, number) for number, row in enumerate(rows, 1)]


def _metrics(row: Mapping[str, Any], evaluators: Mapping[str, Evaluator], number: int) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name in evaluators:
        prefix = f"outputs.{name}."
        found = {column.removeprefix(prefix): value for column, value in row.items() if column.startswith(prefix)}
        for metric, value in found.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise EvalError(f"Evaluator {name} gave no finite number for {metric} on answer {number}.")
            metrics[name if metric == name else f"{name}.{metric}"] = float(value)
        if not found:
            raise EvalError(f"Evaluator {name} failed on answer {number}.")
    return metrics


def _load() -> Any:
    stand_in_for_nltk_data(prepare())
    import promptflow.evals.evaluate._evaluate as module

    # With tracing off it would import an Azure package that is not there to log to a workspace that is not given.
    module._log_metrics_and_instance_results = lambda *_args, **_options: None
    logging.getLogger("promptflow.evals").setLevel(logging.ERROR)
    return module.evaluate
