"""Held-out prompts put to both colours: what is judged when users send too little.

Each pair is the same prompt, asked of each colour by direct header; what is kept is how much worse the candidate's
answer was. A pair in which either colour could not be reached says nothing.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

from scripts.endpoint import Answer, Requests
from scripts.errors import InvalidInput

AT_ONCE = 8
NOT_REACHED = (0, 408, 429, 502, 503, 504)  # the way to the model, not the model


class Prober:
    """Goes round the prompts, so that a long rollout asks each about equally often."""

    def __init__(self, requests: Requests, prompts: Path, metric: str) -> None:
        from eval.evaluators import EVALUATORS
        from eval.flow import decoding
        from eval.prompts import read_prompts

        if metric not in EVALUATORS:
            raise InvalidInput(f"probes.metric {metric!r} is not known: choose one of {sorted(EVALUATORS)}.")
        self._score, self._metric, self._requests = EVALUATORS[metric], metric, requests
        how, rows = decoding(), read_prompts(prompts)
        said = [[*prompt.history, {"role": "user", "content": prompt.text}] for prompt in rows]
        self._rows = cycle([({"messages": one, **how}, prompt) for one, prompt in zip(said, rows, strict=True)])

    def pairs(self, count: int, stable: str, candidate: str) -> list[float]:
        """Stable's score minus the candidate's, from -1 to 1, of up to `count` prompts."""
        rows = list(islice(self._rows, count))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            there = [pool.submit(self._requests.ask, body, stable) for body, _ in rows]
            here = [pool.submit(self._requests.ask, body, candidate) for body, _ in rows]
        scored = [
            (self._value(*one.result(), prompt.expected), self._value(*other.result(), prompt.expected))
            for one, other, (_, prompt) in zip(there, here, rows, strict=True)
        ]
        return [one - other for one, other in scored if one is not None and other is not None]

    def _value(self, answer: Answer, text: str, expected: str) -> float | None:
        if answer.status in NOT_REACHED:
            return None
        if not answer.ok:
            return 0.0
        return min(1.0, max(0.0, self._score(answer=text, expected=expected).get(self._metric, 0.0)))
