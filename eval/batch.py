"""Runs the prompt flow over many rows as a promptflow batch, with progress; the only file that starts one.

The batch runs its rows as asyncio tasks in this process (`batch_use_async`), each node in a thread of its own, not in
promptflow's default process pool: the rows only wait for the network, and starting processes takes longer than they do.
"""

import json
import logging
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.errors import EvalError
from eval.promptflow_home import prepare

FLOW = Path(__file__).resolve().parents[1] / "flow"
LINE_TIMEOUT = 900  # seconds for one row with all its retries, longer than the flow itself is patient
Row = dict[str, Any]
Progress = Callable[[int, int], None]


def run_flow(
    rows: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str],
    *,
    concurrency: int,
    progress: Progress,
    flow: Path = FLOW,
) -> list[Row]:
    """The flow's outputs for each row, in order. `rows` hold the flow's inputs; `environment` is set for its nodes.

    `progress` is called with (done, total) about twice a second. Raises EvalError when promptflow could not run the
    flow or a row has no output: the flow turns every failure of the endpoint into an output, so that is a defect.
    """
    home = prepare()
    # Read by promptflow when a batch starts: rows in flight, and the patience with one.
    limits = {"PF_WORKER_COUNT": str(concurrency), "PF_LINE_TIMEOUT_SEC": str(LINE_TIMEOUT)}
    before = {name: os.environ.get(name) for name in (*limits, *environment)}
    name = f"evaluate-{uuid.uuid4().hex[:12]}"
    outcome: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        os.environ.update(limits)
        worker = threading.Thread(target=_work, args=(flow, data, rows[0], environment, name, outcome), daemon=True)
        try:
            worker.start()
            artifacts = home / ".runs" / name / "flow_artifacts"
            while worker.is_alive():
                worker.join(0.5)
                progress(_finished(artifacts), len(rows))
        finally:
            for variable, value in before.items():
                os.environ.pop(variable, None) if value is None else os.environ.update({variable: value})
    if "error" in outcome:
        raise EvalError(f"The prompt flow could not run: {_first_line(outcome['error'])}") from outcome["error"]
    return _in_order(outcome["details"], len(rows), artifacts)


def _work(
    flow: Path, data: Path, first: Mapping[str, Any], environment: Mapping[str, str], name: str, outcome: dict[str, Any]
) -> None:
    try:
        from promptflow.client import PFClient

        # Its own progress is a line per node and row; ours replaces it.
        for logger in ("promptflow", "promptflow._sdk._orchestrator.run_submitter", "httpx"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        client = PFClient()
        run = client.run(
            flow=str(flow),
            data=str(data),
            column_mapping={column: f"${{data.{column}}}" for column in first},
            environment_variables=dict(environment),
            name=name,
            batch_use_async=True,
        )
        outcome["details"] = client.get_details(run, all_results=True).to_dict("records")
    except Exception as error:  # whatever it is, the main thread says it in one sentence
        outcome["error"] = error


def _in_order(details: list[Row], total: int, artifacts: Path) -> list[Row]:
    outputs: dict[int, Row] = {}
    for row in details:
        values = {key.removeprefix("outputs."): value for key, value in row.items() if key.startswith("outputs.")}
        if values.get("status") in ("ok", "model_error", "infra_error"):
            outputs[int(row["inputs.line_number"])] = values
    if missing := sorted(set(range(total)) - outputs.keys()):
        raise EvalError(f"The prompt flow failed on {len(missing)} of {total} rows: {_why(artifacts, missing[0])}")
    return [outputs[number] for number in range(total)]


def _finished(artifacts: Path) -> int:
    return sum(1 for _ in artifacts.glob("*.jsonl"))


def _why(artifacts: Path, number: int) -> str:
    """What promptflow noted about a row that failed."""
    for path in artifacts.glob(f"{number:09}_*.jsonl"):
        error = json.loads(path.read_text(encoding="utf-8"))["run_info"].get("error") or {}
        return str(error.get("message") or "no reason was noted").splitlines()[0]
    return "it did not get to them."


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Reporter:
    """Progress for people: a bar on a terminal, elsewhere a line every ten seconds and one at the end."""

    def __init__(self, label: str, every: float = 10.0) -> None:
        self._label, self._every, self._last, self._said = label, every, time.monotonic(), -1

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            filled = round(30 * done / total)
            bar = "━" * filled + "╌" * (30 - filled)
            sys.stderr.write(f"\r{self._label} {bar} {done}/{total}" + "\n" * (done == total))
            sys.stderr.flush()
        elif done != self._said and (done == total or time.monotonic() - self._last >= self._every):
            sys.stderr.write(f"{self._label} {done}/{total}\n")
            self._last, self._said = time.monotonic(), done
