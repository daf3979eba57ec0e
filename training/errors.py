"""The one error of the training job that a user can mend; its text is one whole sentence."""


class TrainingError(Exception):
    """Bad recipe, data, model or a training run that went wrong. `str(error)` says what, where and how to mend it."""
