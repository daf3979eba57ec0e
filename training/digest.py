"""One digest for a folder, so that a model can be recognised wherever it is copied."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from training.errors import TrainingError


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 over the sorted `path relative to the folder:SHA-256 of the file` of every file below `folder`.

    The list is hashed as JSON, so that no file name can imitate another layout; `scripts` computes the same number for
    the models it registers. Symbolic links count as the files they lead to (a hub cache and a mounted model are links).
    Raises TrainingError when nothing is there.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise TrainingError(f"{folder} holds no files, so it has no digest; give the folder of a saved model.")
    pairs = [f"{path.relative_to(folder).as_posix()}:{file_sha256(path)}" for path in files]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
