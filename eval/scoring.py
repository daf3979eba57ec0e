"""Scores of answers: from the ledger where the same answer was judged by the same judge before, else computed."""

import math
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from eval import ledger
from eval.metrics import DEFAULT_METRICS, Metrics, judge_digest, load_metrics
from eval.progress import Reporter
from eval.summary import digest_of

AT_ONCE = 500  # answers scored between two times of keeping: what a killed run with a judge model loses at most
Scores = dict[str, float]


class Judge:
    """The evaluators of a metrics file. Raises EvalError for one that does not hold together."""

    def __init__(self, metrics: Path | None = None) -> None:
        self.metrics: Metrics = load_metrics(metrics or DEFAULT_METRICS)
        self.digest = judge_digest(self.metrics)

    def warm_up(self) -> threading.Thread:
        """Import the engine beside the waiting for answers: seconds, which would come after it otherwise."""

        def load() -> None:
            from eval import engine

            with suppress(Exception):  # whatever it is, scoring says it again
                engine.STARTS[self.metrics.engine]()

        thread = threading.Thread(target=load)
        thread.start()
        return thread

    def score(self, answers: Sequence[Mapping[str, str]], *, quiet: bool = False) -> list[Scores]:
        from eval.engine import score_answers

        reports: dict[str, Reporter] = {}

        def progress(evaluator: str, done: int, total: int) -> None:
            report = reports.setdefault(evaluator, Reporter(f"Scoring {evaluator}", total, quiet=quiet))
            report(done)

        return score_answers(answers, self.metrics, progress)


def score(
    answers: Sequence[Mapping[str, str]], judge: Judge, folder: Path, *, fresh: bool = False, quiet: bool = False
) -> list[Scores]:
    """The metrics of each answer, in order. Raises EvalError when any of them could not be scored."""
    path = folder / f"scores-{judge.digest[:16]}.jsonl"
    keys = [digest_of(judge.digest, *(text for item in sorted(answer.items()) for text in item)) for answer in answers]
    there = {} if fresh else ledger.read(path)
    found = {key: scores for key in keys if (scores := _sound(there.get(key))) is not None}
    # Equal answers are scored once: without temperature, that is every repeat.
    missing = list({key: number for number, key in enumerate(keys) if key not in found}.values())
    with ledger.Ledger(path) as kept:
        for start in range(0, len(missing), AT_ONCE):
            numbers = missing[start : start + AT_ONCE]
            given = judge.score([answers[number] for number in numbers], quiet=quiet)
            for number, scores in zip(numbers, given, strict=True):
                found[keys[number]] = scores
                kept.add(keys[number], scores)
    return [found[key] for key in keys]


def _sound(value: Mapping[str, object] | None) -> Scores | None:
    """Kept scores if they are what we write, else None: then they are computed again."""
    if value is None:
        return None
    scores = {name: float(each) for name, each in value.items() if isinstance(each, int | float)}
    return scores if len(scores) == len(value) and all(map(math.isfinite, scores.values())) else None
