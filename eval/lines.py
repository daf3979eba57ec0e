"""One row through the flow, by prompt flow's executor or, without prompt flow, by the same logic in plain Python.

Both give the same outputs for the same row (tests/eval/test_lines.py). eval/ imports nothing of the flow: the folder
says what is run.
"""

import importlib
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from eval.errors import EvalError
from eval.flow import DAG
from eval.promptflow_home import prepare

By = Literal["promptflow", "python"]
BY: tuple[By, ...] = get_args(By)
Row = dict[str, Any]
Line = Callable[[Mapping[str, Any], int], Row]  # the flow's inputs, the row's number → its outputs
LINE_TIMEOUT = 900  # seconds for one row with all its retries, longer than the flow itself is patient
STATUSES = ("ok", "blocked", "model_error", "infra_error")
# What they would say about each row or each way to sign in, the row's own `detail` says in a sentence.
LOUD = ("promptflow", "execution", "execution.flow", "execution.bulk", "httpx", "azure.identity")


def line(flow: Path, by: By) -> Line:
    """The flow, loaded once (by prompt flow seconds, the first time in a process).

    Raises EvalError when it cannot be loaded, and so does the line itself when the flow gives a row no output: it turns
    every failure of the endpoint into one, so that is a defect or a wrong input.
    """
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return LINES[by](flow)
    except Exception as error:
        raise EvalError(f"The prompt flow could not be loaded: {first_line(str(error))}") from error


def _promptflow(flow: Path) -> Line:
    prepare()
    from promptflow.executor import FlowExecutor

    # Rows come back with their error in them, where the next one goes on.
    executor = FlowExecutor.create(flow / DAG, {}, working_dir=flow, raise_ex=False)

    def run(row: Mapping[str, Any], number: int) -> Row:
        result = executor.exec_line(dict(row), index=number, line_timeout_sec=LINE_TIMEOUT)
        output = dict(result.output or {})
        return _sound(output, (result.run_info.error or {}).get("message"))

    return run


def _python(flow: Path) -> Line:
    if str(flow) not in sys.path:
        sys.path.insert(0, str(flow))
    application = importlib.import_module("asking.application")
    if Path(str(application.__file__)).resolve().parents[1] != flow.resolve():
        raise EvalError("another flow was loaded in this process before")

    def run(row: Mapping[str, Any], _number: int) -> Row:
        try:
            output = asdict(application.answer(**row))
        except ValueError as error:
            raise EvalError(f"The flow failed: {first_line(str(error))}") from error
        return _sound(output, None)

    return run


LINES: dict[By, Callable[[Path], Line]] = {"promptflow": _promptflow, "python": _python}


def _sound(output: Row, why: object) -> Row:
    if output.get("status") not in STATUSES:
        raise EvalError(f"The prompt flow failed: {first_line(str(why or 'it gave no status'))}")
    return output


def first_line(text: str) -> str:
    return (text.strip() or "no reason was noted").splitlines()[0]
