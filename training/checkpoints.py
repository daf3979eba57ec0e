"""Checkpoints that a run can trust after its machine was taken away in the middle of writing one.

A checkpoint counts once `complete.json` is in it: written last, under another name first, it lists every file with its
size and says which run it belongs to. Whatever lacks it, or lacks a file of the list, is as good as absent.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from training.errors import TrainingError

MARK = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def seal(folder: Path, run: str, kept: dict[str, Any]) -> None:
    """Declare a checkpoint complete. `run` is the digest of what the run is made of, `kept` goes on in the next one."""
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARK
    }
    beside = folder / f"{MARK}.part"
    beside.write_text(json.dumps({"run": run, "kept": kept, "files": sizes}) + "\n", encoding="utf-8")
    beside.replace(folder / MARK)


def read_mark(folder: Path) -> dict[str, Any] | None:
    """What `seal` wrote, or None for a checkpoint that is not whole."""
    try:
        mark: dict[str, Any] = json.loads((folder / MARK).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in mark["files"].items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return mark if whole else None


def latest(root: Path, run: str) -> Path | None:
    """The newest complete checkpoint below `root`. Raises TrainingError when it belongs to another run."""
    numbered = [(int(found[1]), path) for path in root.glob("checkpoint-*") if (found := _NAME.fullmatch(path.name))]
    for _, path in sorted(numbered, reverse=True):
        mark = read_mark(path)
        if mark is None:
            print(f"{path} is not complete: going back to the one before", flush=True)
        elif mark["run"] != run:
            raise TrainingError(
                f"{path} belongs to a run with another recipe, data or base model; give --checkpoints an empty folder."
            )
        else:
            return path
    return None


def remove_incomplete(root: Path) -> None:
    """Takes away what a killed run left half-written."""
    for path in root.glob("checkpoint-*"):
        if read_mark(path) is None:
            shutil.rmtree(path, ignore_errors=True)
