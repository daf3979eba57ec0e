"""`python -m asking TEXT`: ask the endpoint once and show the answer as it comes. Run it in flow/."""

import argparse
import sys

from .application import answer_stream
from .result import Result


def main(argv: list[str] | None = None) -> int:
    """0 with an answer, 1 without one, 3 for a wrong input or set-up."""
    parser = argparse.ArgumentParser(prog="python -m asking", description=__doc__)
    parser.add_argument("text", help="what the user says")
    parser.add_argument("--deployment", default="", help="ask this one whatever the traffic says")
    parser.add_argument("--few-shot", type=int, default=0, help="examples put before the text")
    parser.add_argument("--system-prompt", default="", help="which of the files system_prompt*.txt")
    given = parser.parse_args(argv)
    try:
        pieces = answer_stream(
            given.text, (), given.few_shot, system_prompt=given.system_prompt, deployment=given.deployment
        )
        for piece in pieces:
            if isinstance(piece, Result):
                return _end(piece)
            print(piece, end="", flush=True)
    except ValueError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 3
    return 1


def _end(result: Result) -> int:
    print()
    who = " of ".join(filter(None, (result.model, result.deployment)))
    said = f"{result.status}, {result.latency_ms:.0f} ms, {result.tokens} tokens" + (f", {who}" if who else "")
    print(said if result.status == "ok" else f"✗ {said}: {result.detail}", file=sys.stderr)
    return 0 if result.status == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
