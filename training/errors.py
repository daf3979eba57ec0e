"""The errors of the training job that end it with one whole sentence: a user's mistake, and a run gone wrong."""


class TrainingError(Exception):
    """Bad recipe, data, model or a training run that went wrong. `str(error)` says what, where and how to mend it."""


class TrainingFailed(Exception):
    """The input was fine, but the run came to no result that could be trusted, such as a loss that is no number."""
