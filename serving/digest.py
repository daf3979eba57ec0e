"""The digest of the model's folder as it was registered and judged: what is served must be what passed the gate."""

import hashlib
import json
from pathlib import Path

NOT_MODEL = {"__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


def of_folder(folder: Path) -> str:
    """Hex SHA-256 over the sorted `relative path:SHA-256` of every file, caches left out (as scripts/digests.py)."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and not NOT_MODEL & set(path.relative_to(folder).parts)
    )
    pairs = [f"{path.relative_to(folder).as_posix()}:{_of_file(path)}" for path in files]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
