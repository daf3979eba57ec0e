"""Set-up of a fresh clone against its limit: `make setup` in a new folder, pip and npm as they are."""

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench._limit import against

LIMIT_SECONDS = 360.0


def run() -> list[dict[str, Any]]:
    """One clone of the last commit, set up from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        started = time.monotonic()
        done = subprocess.run(["make", "-C", str(clone), "setup"], check=False, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        if done.returncode or not (clone / ".cache/smollm2-135m-instruct/config.json").exists():
            raise SystemExit(f"✗ make setup ended with code {done.returncode}: there is nothing to measure")
    return [against("make setup in a fresh clone", "s", seconds, LIMIT_SECONDS)]
