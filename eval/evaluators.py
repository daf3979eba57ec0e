"""How an answer is scored: plain callables with the columns as named arguments, returning a dict of numbers.

An engine (promptflow-evals today) calls them; none of them knows which. No **kwargs: engines read it as a column.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

Evaluator = Callable[..., dict[str, float]]


def exact_match(*, answer: str, expected: str) -> dict[str, float]:
    """1 if the answer is the expected JSON; white space and key order are free, text around it is not.

    An expected text that is not JSON must match as text, stripped.
    """
    if (wanted := parsed(expected)) is None:
        return {"exact_match": float(answer.strip() == expected.strip())}
    got = parsed(answer)
    return {"exact_match": float(got is not None and _canonical(got) == _canonical(wanted))}


def json_valid(*, answer: str) -> dict[str, float]:
    """1 if the whole answer is one JSON object or array, without repeated keys or NaN."""
    got = parsed(answer)
    return {"json_valid": float(got is not None and isinstance(got[0], dict | list))}


def field_accuracy(*, answer: str, expected: str) -> dict[str, float]:
    """Share of the top-level keys of answer and expected together whose values agree; 0 for what is not an object."""
    wanted, got = parsed(expected), parsed(answer)
    if wanted is None or not isinstance(wanted[0], dict):
        return {"field_accuracy": exact_match(answer=answer, expected=expected)["exact_match"]}
    if got is None or not isinstance(got[0], dict):
        return {"field_accuracy": 0.0}
    keys = wanted[0].keys() | got[0].keys()
    right = sum(
        key in wanted[0] and key in got[0] and _canonical((wanted[0][key],)) == _canonical((got[0][key],))
        for key in keys
    )
    return {"field_accuracy": right / len(keys) if keys else 1.0}


def f1(*, answer: str, expected: str) -> dict[str, float]:
    """Harmonic mean of token precision and recall (words and numbers, case ignored), as in SQuAD."""
    got, wanted = (Counter(re.findall(r"\w+", text.casefold())) for text in (answer, expected))
    common = (got & wanted).total()
    if not common:
        return {"f1": float(got == wanted)}
    return {"f1": 2 * common / (got.total() + wanted.total())}


EVALUATORS: dict[str, Evaluator] = {
    "exact_match": exact_match,
    "json_valid": json_valid,
    "field_accuracy": field_accuracy,
    "f1": f1,
}


def parsed(text: str) -> tuple[Any] | None:
    """The text's JSON value in a tuple (it may be null), or None when it is not strict JSON."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key is repeated")
        return dict(pairs)

    def refuse(token: str) -> NoReturn:
        raise ValueError(f"{token} is not JSON")

    try:
        return (json.loads(text, object_pairs_hook=once, parse_constant=refuse),)
    except (ValueError, RecursionError):
        return None


def _canonical(value: tuple[Any]) -> str:
    # As text, because in Python True == 1 == 1.0, and a model that writes true for 1 did not write what was expected.
    return json.dumps(value[0], sort_keys=True)
