"""Answers that are JSON: the same value, the right shape, how many fields are right."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from eval.errors import EvalError


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


def json_schema(file: Path) -> Callable[..., dict[str, float]]:
    """An evaluator that gives 1 if the whole answer is JSON that fits the schema in `file`.

    Raises EvalError when the file holds no schema; the evaluator does when the schema points to another one, which is
    never fetched.
    """
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        schema = json.loads(file.read_text(encoding="utf-8"))
        kind = validator_for(schema)
        kind.check_schema(schema)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise EvalError(f"{file}: the JSON schema cannot be read ({why}).") from error
    except (ValueError, SchemaError) as error:
        raise EvalError(f"{file}: not a JSON schema ({str(error).splitlines()[0]}).") from error
    if not isinstance(schema, dict):
        raise EvalError(f"{file}: not a JSON schema (it must be an object).")
    # An empty registry: the default one would fetch what the schema refers to.
    validator = kind(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)

    def fits(*, answer: str) -> dict[str, float]:
        if (got := parsed(answer)) is None:
            return {"json_schema": 0.0}
        try:
            return {"json_schema": float(validator.is_valid(got[0]))}
        except Unresolvable as error:
            raise EvalError(f"{file} refers to {error.ref}, which is not in it; put it there under $defs.") from error

    return fits


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
