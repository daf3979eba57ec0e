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
    """SHA-256 over the sorted (path relative to `folder` with /, SHA-256 of the file) of every file below it.

    The pairs are hashed as compact JSON, so that no file name can imitate another layout. Symbolic links count as the
    files they lead to (the endpoint and a hub cache mount models by link). Raises TrainingError when nothing is there.
    """
    pairs = sorted((p.relative_to(folder).as_posix(), file_sha256(p)) for p in folder.rglob("*") if p.is_file())
    if not pairs:
        raise TrainingError(f"{folder} holds no files, so it has no digest; give the folder of a saved model.")
    return hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest()
