"""SHA-256 digests of what goes into a job, so that equal work has an equal name and is never paid for twice."""

import hashlib
import json
from pathlib import Path

from scripts.errors import InvalidInput

NOT_CODE = {"__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


def of_file(path: Path) -> str:
    """Hex SHA-256 of one file's bytes. Raises InvalidInput when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror}).") from None


def of_folder(folder: Path) -> str:
    """Hex SHA-256 over the sorted `relative path:SHA-256` of every file, caches left out.

    The training job gives its model the same digest (training/digest.py). Raises InvalidInput when there is no file.
    """
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and not NOT_CODE & set(path.relative_to(folder).parts)
    )
    if not files:
        raise InvalidInput(f"{folder}: there are no files in this folder.")
    return of_values(*(f"{path.relative_to(folder).as_posix()}:{of_file(path)}" for path in files))


def of_values(*values: str) -> str:
    """Hex SHA-256 of a list of strings, unambiguous whatever they contain."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
