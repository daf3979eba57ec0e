"""Ask a deployed model every held-out prompt through the prompt flow, score the answers, write the score table.

`python -m eval.run --scoring-uri URI --out out/scores/stable.jsonl`. Exit codes: 0 done, 3 invalid input, 4 endpoint.
Killed at any moment, the same command goes on where it was; the answers of a model whose digest is given also serve
later runs.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.answers import Answer, Asked, Question, ask, folder, forget
from eval.atomic import write_atomic
from eval.errors import EvalError
from eval.flow import decoding, flow_digest
from eval.lines import BY, By
from eval.metrics import caveats
from eval.prompts import read_prompts
from eval.scores import ScoreRow, prompts_digest, scores_digest, write_scores
from eval.scoring import Judge, score
from eval.summary import RunSummary, beside

MAX_INFRA_ERROR_RATE = 0.02  # as in the gate's default policy: more, and the gate would refuse the table anyway
MODEL = "SHA-256 of the model that the deployment runs: its answers are then used again by later runs"


def run(
    prompts: Path,
    scoring_uri: str,
    out: Path,
    *,
    deployment: str | None = None,
    model_digest: str | None = None,
    serving: str = "",
    few_shot: int = 0,
    repeats: int = 1,
    metrics: Path | None = None,
    concurrency: int = 16,
    max_infra_error_rate: float = MAX_INFRA_ERROR_RATE,
    fresh: bool = False,
    quiet: bool = False,
    by: By = "promptflow",
    shape: str = "",
) -> RunSummary:
    """Evaluate one deployment over `prompts`: write `out` and, beside it, NAME.answers.jsonl and NAME.run.json.

    `concurrency` requests are in flight, each prompt is asked `repeats` times, `few_shot` examples go before it.
    `model_digest` and `serving` say what the deployment is made of: answers and scores that were kept (folder `.kept`
    beside `out`) are used again where all of that is the same, unless `fresh`. `by`: what runs
    the flow; `shape`: of its requests, else as ENDPOINT_SHAPE says. No table is written unless it is whole.
    Raises EvalError, and its InfraError when the endpoint failed too often.
    """
    started = time.monotonic()
    if repeats < 1 or concurrency < 1 or few_shot < 0:
        raise EvalError("repeats and concurrency must be at least 1 and few_shot at least 0.")
    if not scoring_uri.startswith(("https://", "http://")):
        raise EvalError(f"The scoring URI {scoring_uri!r} is not an http(s) address; give the endpoint's scoring URI.")
    questions = [(prompt, repeat) for prompt in read_prompts(prompts) for repeat in range(repeats)]
    judge = Judge(metrics)
    asked = Asked(scoring_uri, deployment, model_digest or None, serving, few_shot, by=by, shape=shape)
    answers, answering = ask(
        questions,
        asked,
        out,
        concurrency=concurrency,
        max_lost=max_infra_error_rate,
        meanwhile=judge.warm_up,
        fresh=fresh,
        quiet=quiet,
    )
    rows = _rows(questions, answers, judge, out, fresh=fresh, quiet=quiet)
    answers_file = out.with_suffix(".answers.jsonl")
    summary = _summary(
        rows,
        scores=str(out),
        answers=str(answers_file),
        model=asked.model,
        deployment=deployment,
        flow_digest=flow_digest(),
        judge_digest=judge.digest,
        caveats=caveats(judge.metrics),
        decoding=decoding(),
        few_shot=few_shot,
        repeats=repeats,
        seconds=round(time.monotonic() - started, 2),
        answer_seconds=round(answering, 2),
        evaluated_at=min(answer.at for answer in answers),
    )
    write_atomic(answers_file, _transcript(questions, answers))
    write_atomic(beside(out), summary.model_dump_json(indent=2) + "\n")
    write_scores(out, rows)  # last, so that a table is there only when all of it is
    forget(asked, out)
    return summary


def _rows(
    questions: Sequence[Question], answers: Sequence[Answer], judge: Judge, out: Path, *, fresh: bool, quiet: bool
) -> list[ScoreRow]:
    """A failed answer keeps the metrics of an empty one; one that was lost has none and is not judged."""
    there = [number for number, answer in enumerate(answers) if answer.status != "infra_error"]
    columns = [_columns(questions[number], answers[number]) for number in there]
    scores = score(columns, judge, folder(out), fresh=fresh, quiet=quiet)
    found = dict(zip(there, scores, strict=True))
    return [
        ScoreRow(
            prompt_id=prompt.id,
            repeat=repeat,
            cluster_id=prompt.cluster_id,
            slices=prompt.slices,
            status=answer.status,
            metrics=found.get(number, {}),
            latency_ms=answer.latency_ms if number in found else None,
            tokens=answer.tokens if number in found else None,
        )
        for number, ((prompt, repeat), answer) in enumerate(zip(questions, answers, strict=True))
    ]


def _columns(question: Question, answer: Answer) -> dict[str, str]:
    """What evaluators see of an answer."""
    prompt = question[0]
    return {
        "prompt_id": prompt.id,
        "query": prompt.text,
        "context": prompt.context or "",
        "expected": prompt.expected,
        "answer": answer.answer,
        "logprobs": answer.logprobs,
    }


def _transcript(questions: Sequence[Question], answers: Sequence[Answer]) -> str:
    """What was said, for people and the report, a line each in the order of the score table."""
    told = sorted(zip(questions, answers, strict=True), key=lambda pair: (pair[0][0].id, pair[0][1]))
    lines = (
        {
            "prompt_id": prompt.id,
            "repeat": repeat,
            "history": prompt.history,
            "prompt": prompt.text,
            "answer": answer.answer,
            "expected": prompt.expected,
        }
        for (prompt, repeat), answer in told
    )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _summary(rows: list[ScoreRow], **given: Any) -> RunSummary:
    kept = [row for row in rows if row.status != "infra_error"]
    names = sorted({name for row in kept for name in row.metrics})
    latencies = [row.latency_ms for row in rows if row.status == "ok" and row.latency_ms is not None]
    return RunSummary(
        prompts=len({row.prompt_id for row in rows}),
        rows=len(rows),
        model_errors=sum(row.status == "model_error" for row in rows),
        blocked=sum(row.status == "blocked" for row in rows),
        infra_errors=len(rows) - len(kept),
        # An evaluator that does not apply to a row says nothing of it.
        metrics={name: statistics.fmean(row.metrics[name] for row in kept if name in row.metrics) for name in names},
        latency_ms_p50=statistics.median(latencies) if latencies else None,
        tokens=sum(row.tokens or 0 for row in rows),
        prompts_digest=prompts_digest(rows),
        scores_digest=scores_digest(rows),
        **given,
    )


def main(argv: list[str] | None = None) -> int:
    from eval.gate import Parser
    from eval.promptflow_home import discard
    from eval.startup import let_imports_be

    let_imports_be()

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
    made.add_argument("--model-digest", metavar="DIGEST", help=MODEL)
    made.add_argument("--serving", default="", help="changes whenever else the deployment does; part of what is kept")
    made.add_argument("--metrics", type=Path, help="which evaluators run (default: eval/metrics.yaml)")
    made.add_argument("--few-shot", type=int, default=0, help="examples before each prompt (default: 0)")
    made.add_argument("--repeats", type=int, default=1, help="times each prompt is asked (default: 1)")
    made.add_argument("--concurrency", type=int, default=16, help="requests in flight (default: 16)")
    made.add_argument("--fresh", action="store_true", help="ask and score anew, whatever was kept before")
    made.add_argument(
        "--engine", dest="by", choices=BY, default=BY[0], help="what runs the flow (default: %(default)s)"
    )
    options = vars(made.parse_args(argv))
    try:
        done = run(options.pop("prompts"), options.pop("scoring_uri"), options.pop("out"), **options)
    except EvalError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        # promptflow's threads wait for the answers under way, minutes perhaps, and Python would wait for them.
        print("Interrupted.", file=sys.stderr, flush=True)
        discard()
        os._exit(130)
    scores = ", ".join(f"{name} {value:.3f}" for name, value in done.metrics.items())
    print(f"{done.rows} answers in {done.seconds:.1f} s: {scores} ({done.scores})")
    return 0


if __name__ == "__main__":
    from eval.promptflow_home import discard

    code = main()
    discard()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written; taking promptflow's two thousand modules apart would be a fifth of a second
