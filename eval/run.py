"""Ask a deployed model every held-out prompt through the prompt flow, score the answers, write the score table.

`python -m eval.run --scoring-uri URI --out out/scores/stable.jsonl`. Exit codes: 0 done, 3 invalid input, 4 endpoint.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from eval.atomic import write_atomic
from eval.errors import EvalError, InfraError
from eval.prompts import Prompt, read_prompts
from eval.scores import ScoreRow, prompts_digest, scores_digest, write_scores

MAX_INFRA_ERROR_RATE = 0.02  # as in the gate's default policy: more, and the gate would refuse the table anyway


class RunSummary(BaseModel):
    """What one evaluation came to. Metrics are means over all rows that were not lost to infrastructure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    scores: str
    answers: str
    deployment: str | None
    few_shot: int
    repeats: int
    prompts: int
    rows: int
    model_errors: int
    infra_errors: int
    metrics: dict[str, float]
    latency_ms_p50: float | None
    tokens: int
    seconds: float  # the whole evaluation
    answer_seconds: float  # of these, asking the model
    prompts_digest: str
    scores_digest: str


def run(
    prompts: Path,
    scoring_uri: str,
    out: Path,
    *,
    deployment: str | None = None,
    few_shot: int = 0,
    repeats: int = 1,
    concurrency: int = 16,
    max_infra_error_rate: float = MAX_INFRA_ERROR_RATE,
    quiet: bool = False,
) -> RunSummary:
    """Evaluate one deployment over `prompts` and write `out` and, beside it, NAME.answers.jsonl.

    `concurrency` requests are in flight, each prompt is asked `repeats` times, `few_shot` examples go before it.
    Nothing is written unless everything was. Raises EvalError, and its InfraError when the endpoint failed too often.
    """
    from eval.batch import Reporter, run_flow
    from eval.engine import score_answers

    started = time.monotonic()
    if repeats < 1 or concurrency < 1 or few_shot < 0:
        raise EvalError("repeats and concurrency must be at least 1 and few_shot at least 0.")
    if not scoring_uri.startswith(("https://", "http://")):
        raise EvalError(f"The scoring URI {scoring_uri!r} is not an http(s) address; give the endpoint's scoring URI.")
    asked = [(prompt, repeat) for prompt in read_prompts(prompts) for repeat in range(repeats)]
    outputs = run_flow(
        [{"input_data": p.text, "chat_history": p.history, "few_shot": few_shot} for p, _ in asked],
        {"ENDPOINT_SCORING_URI": scoring_uri, "ENDPOINT_DEPLOYMENT": deployment or ""},
        concurrency=concurrency,
        progress=_silent if quiet else Reporter(f"Asking {deployment or 'the endpoint'}"),
    )
    answered = time.monotonic() - started
    _refuse_if_lost(outputs, max_infra_error_rate)
    answers = [
        {"answer": str(output["answer"]), "expected": prompt.expected}
        for (prompt, _), output in zip(asked, outputs, strict=True)
    ]
    scores = score_answers(answers)
    rows = [
        _row(prompt, repeat, output, metrics)
        for (prompt, repeat), output, metrics in zip(asked, outputs, scores, strict=True)
    ]
    beside = out.with_suffix(".answers.jsonl")
    lines = (
        json.dumps({"prompt_id": p.id, "repeat": r, "history": p.history, "prompt": p.text, **a}, ensure_ascii=False)
        + "\n"
        for (p, r), a in sorted(zip(asked, answers, strict=True), key=lambda pair: (pair[0][0].id, pair[0][1]))
    )
    write_atomic(beside, "".join(lines))
    write_scores(out, rows)  # last, so that a table is there only when all of it is
    return _summary(
        rows,
        scores=str(out),
        answers=str(beside),
        deployment=deployment,
        few_shot=few_shot,
        repeats=repeats,
        seconds=round(time.monotonic() - started, 2),
        answer_seconds=round(answered, 2),
    )


def _silent(_done: int, _total: int) -> None:
    """No progress."""


def _refuse_if_lost(outputs: Sequence[dict[str, Any]], limit: float) -> None:
    lost = [output for output in outputs if output["status"] == "infra_error"]
    if len(lost) > limit * len(outputs):
        raise InfraError(
            f"{len(lost)} of {len(outputs)} prompts got no answer from the endpoint, more than {limit:.0%}: "
            f"{lost[0]['detail']}"
        )


def _row(prompt: Prompt, repeat: int, output: dict[str, Any], metrics: dict[str, float]) -> ScoreRow:
    """A failed answer keeps the metrics of an empty one; one that was lost has none."""
    lost = output["status"] == "infra_error"
    return ScoreRow(
        prompt_id=prompt.id,
        repeat=repeat,
        cluster_id=prompt.cluster_id,
        slices=prompt.slices,
        status=output["status"],
        metrics={} if lost else metrics,
        latency_ms=None if lost else float(output["latency_ms"]),
        tokens=None if lost else int(output["tokens"]),
    )


def _summary(rows: list[ScoreRow], **given: Any) -> RunSummary:
    kept = [row for row in rows if row.status != "infra_error"]
    names = sorted({name for row in kept for name in row.metrics})
    latencies = [row.latency_ms for row in rows if row.status == "ok" and row.latency_ms is not None]
    return RunSummary(
        prompts=len({row.prompt_id for row in rows}),
        rows=len(rows),
        model_errors=sum(row.status == "model_error" for row in rows),
        infra_errors=len(rows) - len(kept),
        metrics={name: statistics.fmean(row.metrics[name] for row in kept) for name in names},
        latency_ms_p50=statistics.median(latencies) if latencies else None,
        tokens=sum(row.tokens or 0 for row in rows),
        prompts_digest=prompts_digest(rows),
        scores_digest=scores_digest(rows),
        **given,
    )


def main(argv: list[str] | None = None) -> int:
    from eval.gate import Parser
    from eval.promptflow_home import discard

    made = Parser(
        prog="python -m eval.run",
        description="Evaluate a deployed model over the held-out prompts.",
        epilog="example: python -m eval.run --scoring-uri https://NAME.REGION.inference.ml.azure.com/score "
        "--deployment green --out out/scores/candidate.jsonl",
    )
    made.add_argument("--prompts", type=Path, default=Path("data/heldout.jsonl"), help="default: data/heldout.jsonl")
    made.add_argument("--scoring-uri", required=True)
    made.add_argument("--out", type=Path, required=True, help="the score table")
    made.add_argument("--deployment", help="ask this deployment, whatever the traffic says")
    made.add_argument("--few-shot", type=int, default=0, help="examples before each prompt (default: 0)")
    made.add_argument("--repeats", type=int, default=1, help="times each prompt is asked (default: 1)")
    made.add_argument("--concurrency", type=int, default=16, help="requests in flight (default: 16)")
    options = vars(made.parse_args(argv))
    try:
        done = run(options.pop("prompts"), options.pop("scoring_uri"), options.pop("out"), **options)
    except EvalError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        # promptflow's threads wait for the answers under way, minutes perhaps, and Python would wait for them.
        print("Interrupted: nothing was written.", file=sys.stderr, flush=True)
        discard()
        os._exit(130)
    scores = ", ".join(f"{name} {value:.3f}" for name, value in done.metrics.items())
    print(f"{done.rows} answers in {done.seconds:.1f} s: {scores} ({done.scores})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
