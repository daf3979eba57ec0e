"""The one error a user of `eval` sees: its text is a single sentence saying what, where and how to mend it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class EvalError(Exception):
    """A user's mistake or unusable evidence."""

    exit_code = 3


class InfraError(EvalError):
    """The endpoint or the network failed too often for the answers to mean anything."""

    exit_code = 4


def first_problem(error: "ValidationError") -> str:
    """The first problem of a pydantic error as half a sentence: where, what, and how many more."""
    problem, *others = error.errors(include_url=False)
    where = ".".join(str(part) for part in problem["loc"])
    what = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        what = "unknown key"
    more = f" (and {len(others)} more)" if others else ""
    return f"{where + ': ' if where else ''}{what}{more}"
