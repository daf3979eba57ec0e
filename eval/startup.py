"""What every command does first, so that it starts in half the time."""

import atexit
import gc


def let_imports_be() -> None:
    """The packages make a million objects that live as long as we do: do not look through them for rubbish, again and
    again and once more at the end. That was half of the time of a short command (tests/bench/startup.py)."""
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)
