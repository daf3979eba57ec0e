"""The prompt flow as data: its digest and how it lets the model decode. eval/ imports nothing of it."""

import hashlib
import os
from pathlib import Path
from typing import Any

from eval.errors import EvalError
from eval.summary import digest_of

FLOW = Path(__file__).resolve().parents[1] / "flow"
DAG = "flow.dag.yaml"
BESIDE = {"__pycache__", "chat"}  # the chat page asks through the flow's call, and no answer depends on it
KINDS = {".py", ".txt", ".jsonl"}  # what the flow runs and what it says; beside the definition


def flow_digest(flow: Path = FLOW) -> str:
    """SHA-256 over the flow's files, without what promptflow and Python leave among them, and over which content filter
    it runs with: that changes answers too."""
    files = sorted(
        path
        for path in flow.rglob("*")
        if (path.suffix in KINDS or path.name == DAG)
        and path.is_file()
        and not any(part in BESIDE or part.startswith(".") for part in path.relative_to(flow).parts)
    )
    try:
        parts = [(path.relative_to(flow).as_posix(), path.read_bytes()) for path in files]
    except OSError as error:
        raise EvalError(f"{error.filename}: a file of the prompt flow cannot be read ({error.strerror}).") from error
    screened = os.environ.get("CONTENT_FILTER", "") or "local"
    settings = [] if screened == "local" else ["CONTENT_FILTER", screened]
    return digest_of(*settings, *(text for name, data in parts for text in (name, hashlib.sha256(data).hexdigest())))


def decoding(flow: Path = FLOW) -> dict[str, bool | float | int | str]:
    """What a request says beside its messages: the default of the flow's input `decoding`."""
    import yaml

    try:
        dag: dict[str, Any] = yaml.safe_load((flow / DAG).read_text(encoding="utf-8"))
        found: dict[str, bool | float | int | str] = dag["inputs"]["decoding"]["default"]
        return dict(found)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise EvalError(f"{flow / DAG}: there is no default of its input `decoding` to be read ({error}).") from error
