"""How a command ends badly. The exit code says who has to act; the message is the one sentence they read."""


class ScriptError(Exception):
    """A command's failure that is not a bug: `str()` is one sentence (what, where, how to mend)."""

    exit_code = 4


class Refused(ScriptError):
    """A rule said no (a gate that failed, a rollout taken back, a live deployment about to be overwritten)."""

    exit_code = 1


class Undecided(ScriptError):
    """The evidence does not allow a decision either way."""

    exit_code = 2


class InvalidInput(ScriptError):
    """The caller's input is wrong or missing."""

    exit_code = 3


class AzureFailed(ScriptError):
    """Azure (or the way to it) failed: nothing is wrong with the input."""

    exit_code = 4
