"""The one error a user of `eval` sees: its text is a single sentence saying what, where and how to mend it."""


class EvalError(Exception):
    """A user's mistake or unusable evidence (exit code 3)."""


class InfraError(EvalError):
    """The endpoint or the network failed too often for the answers to mean anything (exit code 4)."""
