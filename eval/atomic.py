"""Write a file whole or not at all: a killed run must never leave half a score table or half a verdict."""

import os
from contextlib import suppress
from pathlib import Path

from eval.errors import EvalError


def write_atomic(path: Path, text: str) -> None:
    """Write `text` (UTF-8) beside `path` and move it into place; parents are made. Raises EvalError when it cannot."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise EvalError(f"{path}: cannot be written ({error.strerror or error}); choose another place.") from error
