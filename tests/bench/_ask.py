"""`python -m tests.bench._ask HOW URI PROMPTS`: ask all prompts in one way; prints the seconds from having them to
having their answers. Imports are done before, whatever they take (tests/bench/startup.py)."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

AT_ONCE = 16


def main() -> int:
    how, uri, prompts = sys.argv[1:]
    from eval.promptflow_home import prepare

    prepare()
    os.environ |= {"ENDPOINT_SCORING_URI": uri, "ENDPOINT_DEPLOYMENT": ""}
    from eval.prompts import read_prompts

    rows = [{"input_data": p.text, "chat_history": p.history, "few_shot": 0} for p in read_prompts(Path(prompts))]
    seconds, answers = {"ours": ours, "python": plain, "bare": bare}.get(how, promptflows)(rows, how)
    if len(answers) != len(rows) or set(answers) != {'{"category":"billing"}'}:
        raise SystemExit(f"✗ {how}: not every prompt was answered: there is nothing to measure")
    print(seconds, flush=True)
    os._exit(0)  # promptflow's service threads would hold it up


def ours(rows: list[dict[str, Any]], _how: str) -> tuple[float, list[str]]:
    """The flow through our pool, each answer kept in a ledger."""
    import promptflow.executor  # noqa: F401

    return _through("promptflow", rows)


def plain(rows: list[dict[str, Any]], _how: str) -> tuple[float, list[str]]:
    """The same without prompt flow: `--engine python`."""
    import httpx  # noqa: F401
    import jsonschema  # noqa: F401
    import tenacity  # noqa: F401

    return _through("python", rows)


def _through(by: Any, rows: list[dict[str, Any]]) -> tuple[float, list[str]]:
    from eval.batch import Flow
    from eval.ledger import Ledger

    answers: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        with Ledger(Path(folder) / "answers.jsonl") as kept:

            def take(number: int, output: dict[str, Any]) -> bool:
                answers[number] = output["answer"]
                kept.add(str(number), output)
                return True

            Flow(by=by).run(rows, {}, concurrency=AT_ONCE, on_output=take)
        return time.monotonic() - started, list(answers.values())


def promptflows(rows: list[dict[str, Any]], how: str) -> tuple[float, list[str]]:
    """promptflow's own batch run: `default`, `async`, or `async-16`, which is told to have as many in flight as we."""
    from promptflow.client import PFClient

    if how == "async-16":
        os.environ["PF_WORKER_COUNT"] = str(AT_ONCE)
    client = PFClient()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        data = Path(folder) / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        mapping = {column: f"${{data.{column}}}" for column in rows[0]}
        options = {"batch_use_async": True} if how.startswith("async") else {}
        run = client.run(flow="flow", data=str(data), column_mapping=mapping, **options)
        details = client.get_details(run, all_results=True)
        return time.monotonic() - started, list(details["outputs.answer"])


def bare(rows: list[dict[str, Any]], _how: str) -> tuple[float, list[str]]:
    """The same requests without flow, records or anything: what the model takes."""
    from concurrent.futures import ThreadPoolExecutor

    import httpx

    with httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=64)) as http:

        def ask(row: dict[str, Any]) -> str:
            messages = [*row["chat_history"], {"role": "user", "content": row["input_data"]}]
            body = {"messages": messages, "max_tokens": 48, "temperature": 0}
            reply = http.post(os.environ["ENDPOINT_SCORING_URI"], json=body).json()
            return str(reply["choices"][0]["message"]["content"])

        started = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(ask, rows))
        return time.monotonic() - started, answers


if __name__ == "__main__":
    sys.exit(main())
