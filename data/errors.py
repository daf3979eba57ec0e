"""The one error of this package that a user can mend; its text is one whole sentence."""


class DataError(Exception):
    """Bad data or a bad path. `str(error)` says what is wrong, where, and how to mend it."""
