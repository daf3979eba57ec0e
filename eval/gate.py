"""The gate as a command: `python -m eval.gate --candidate C.jsonl --baseline B.jsonl --policy P.yaml --out V.json`.

Exit codes: 0 pass, 1 fail, 2 inconclusive, 3 invalid. An INVALID verdict is written too, whenever `--out` can be.
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from eval.errors import EvalError

INVALID = 3


class Parser(argparse.ArgumentParser):
    """argparse exits 2 on a wrong option, which here means "inconclusive": it must be 3, invalid input."""

    def error(self, message: str) -> NoReturn:
        self.exit(INVALID, f"{self.prog}: {message} (see --help).\n")


def parser() -> Parser:
    made = Parser(
        prog="python -m eval.gate",
        description="Decide whether a candidate may replace the baseline.",
        epilog="example: python -m eval.gate --candidate out/scores/candidate.jsonl --baseline out/scores/stable.jsonl "
        "--out out/verdict.json",
    )
    made.add_argument("--candidate", type=Path, required=True, help="the candidate's score table")
    made.add_argument("--baseline", type=Path, help="the live model's score table; leave it out on a first release")
    made.add_argument("--policy", type=Path, help="what to demand (default: eval/policy.yaml)")
    made.add_argument("--out", type=Path, required=True, help="where to write the verdict")
    made.add_argument("--candidate-model", metavar="DIGEST", help="binds the verdict to the candidate")
    made.add_argument("--baseline-model", metavar="DIGEST", help="binds the verdict to the baseline")
    made.add_argument("--aa", action="store_true", help="allow the same model on both sides, to check the gate itself")
    return made


def gate(arguments: argparse.Namespace) -> int:
    """Read, decide, write, show; returns the exit code. Raises EvalError only when the verdict cannot be written."""
    from rich.console import Console

    from eval.decide import decide
    from eval.policy import DEFAULT_POLICY, load_policy
    from eval.scores import read_scores
    from eval.show import show
    from eval.summary import summary_of
    from eval.verdict import invalid_verdict, write_verdict

    models = {"candidate_model": arguments.candidate_model, "baseline_model": arguments.baseline_model}
    try:
        policy = load_policy(arguments.policy or DEFAULT_POLICY)
        candidate = read_scores(arguments.candidate, policy.required())
        baseline = read_scores(arguments.baseline, policy.required()) if arguments.baseline else None
        runs = summary_of(arguments.candidate), summary_of(arguments.baseline)
        verdict = decide(candidate, baseline, policy, aa=arguments.aa, runs=runs, **models)
    except EvalError as error:
        verdict = invalid_verdict(str(error), **models)
    show(verdict, Console())
    write_verdict(arguments.out, verdict)
    return verdict.exit_code


def main(argv: list[str] | None = None) -> int:
    try:
        return gate(parser().parse_args(argv))
    except EvalError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
