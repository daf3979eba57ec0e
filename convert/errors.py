"""The one error of the conversion that is the user's to mend."""


class ConvertError(Exception):
    """Bad recipe, model or prompts; `str(error)` is one sentence that says what, where and how to mend it."""
