"""Held-out prompts put to both colours: what is judged when users send too little, and what answers are read of.

Each pair is the same prompt, asked of each colour by direct header; what is kept is how much worse the candidate's
answer was. A pair in which either colour could not be reached says nothing.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from scripts.endpoint import Answer, Asks
from scripts.errors import InvalidInput

AT_ONCE = 8
NOT_REACHED = (0, 408, 429, 502, 503, 504)  # the way to the model, not the model


@dataclass(frozen=True)
class Probed:
    """`drops`: stable's score minus the candidate's, from -1 to 1. The others are what each said where it answered."""

    drops: Sequence[float]
    candidate: Sequence[str]
    stable: Sequence[str]


class Prober:
    """Goes round the prompts, so that a long rollout asks each about equally often."""

    def __init__(self, requests: Asks, prompts: Path, metric: str) -> None:
        from eval.evaluators import EVALUATORS
        from eval.flow import decoding
        from eval.prompts import read_prompts

        if metric not in EVALUATORS:
            raise InvalidInput(f"probes.metric {metric!r} is not known: choose one of {sorted(EVALUATORS)}.")
        self._score, self._metric, self._requests = EVALUATORS[metric], metric, requests
        how, rows = decoding(), read_prompts(prompts)
        said = [[*prompt.history, {"role": "user", "content": prompt.text}] for prompt in rows]
        self._rows = cycle([({"messages": one, **how}, prompt) for one, prompt in zip(said, rows, strict=True)])

    def pairs(self, count: int, stable: str, candidate: str) -> Probed:
        """Up to `count` prompts; without a stable colour (a first release) the candidate's answers and no drops."""
        rows = list(islice(self._rows, count))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            there = [pool.submit(self._requests.ask, body, stable) for body, _ in rows if stable]
            here = [pool.submit(self._requests.ask, body, candidate) for body, _ in rows]
        asked = [prompt.expected for _, prompt in rows]
        other, mine = ([each.result() for each in side] for side in (there, here))
        scores = (
            [self._value(*answer, expected) for answer, expected in zip(side, asked, strict=False)]
            for side in (other, mine)
        )
        drops = [one - two for one, two in zip(*scores, strict=False) if one is not None and two is not None]
        return Probed(drops, _texts(mine), _texts(other))

    def _value(self, answer: Answer, text: str, expected: str) -> float | None:
        if answer.status in NOT_REACHED:
            return None
        if not answer.ok:
            return 0.0
        return min(1.0, max(0.0, self._score(answer=text, expected=expected).get(self._metric, 0.0)))


def _texts(answers: Sequence[tuple[Answer, str]]) -> list[str]:
    return [text for answer, text in answers if answer.ok]
