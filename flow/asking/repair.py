"""Structured output: an answer that is not JSON of the schema goes back to the model once, with what is wrong."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .calling import Message
from .result import Result

LONGEST = 2000  # characters of a wrong answer that the model is shown: more would not fit beside the conversation
AGAIN = "That answer cannot be used: {problem}. Answer again, only with the JSON."
Ask = Callable[[Sequence[Message]], Result]


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises ValueError for what is no JSON schema."""
    if not schema:  # nothing to check, and checking it would cost each row a millisecond
        return
    import jsonschema

    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"answer_schema is no JSON schema: {_line(error.message).rstrip('.')}.") from None


def problem(answer: str, schema: Mapping[str, Any]) -> str:
    """What is wrong with an answer, as half a sentence for the model; "" when nothing is."""
    import jsonschema

    try:
        value = json.loads(answer, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return "it is not JSON"
    checker = jsonschema.validators.validator_for(schema)(schema)
    found = jsonschema.exceptions.best_match(checker.iter_errors(value))
    if found is None:
        return ""
    where = "/".join(str(part) for part in found.absolute_path)
    return _line(f"in {where}: {found.message}" if where else found.message)


def repaired(messages: Sequence[Message], result: Result, schema: Mapping[str, Any], ask: Ask) -> Result:
    """`result`, or what the model made of its second chance. Raises ValueError for a wrong schema.

    `repair` is then "repaired" or "failed", `latency_ms` and `tokens` are of both answers, `attempts` has each.
    A second try that was lost leaves the first answer; what is wrong with it is said in `detail`.
    """
    if not schema:
        return result
    check_schema(schema)
    if result.status != "ok" or not (wrong := problem(result.answer, schema)):
        return result
    shown = {"role": "assistant", "content": result.answer[:LONGEST]}
    second = ask([*messages, shown, {"role": "user", "content": AGAIN.format(problem=wrong)}])
    both: dict[str, Any] = {
        "latency_ms": round(result.latency_ms + second.latency_ms, 1),
        "tokens": result.tokens + second.tokens,
        "attempts": ((result.latency_ms, result.tokens), (second.latency_ms, second.tokens)),
    }
    if second.status == "blocked":
        return replace(second, repair="failed", **both)
    if second.status != "ok":
        said = f"the answer is wrong ({wrong}) and was not repaired: {second.detail}"
        return replace(result, repair="failed", detail=said, **both)
    if still := problem(second.answer, schema):
        said = f"asked twice, and the answer is still wrong: {still}"
        return replace(second, repair="failed", detail=said, **both)
    return replace(second, repair="repaired", **both)


def _no_number(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities are no JSON


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
