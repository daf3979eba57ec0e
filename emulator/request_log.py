"""HOME/requests.jsonl: every request and answer, without anything that would let a reader log in or read a blob."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

BODY_LIMIT = 256 * 1024
SECRET_KEYS = frozenset(
    {"key", "primarykey", "secondarykey", "accesstoken", "access_token", "client_assertion", "client_secret", "secret"}
    | {"password", "token", "sastoken"}
)
TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
SIGNATURE = re.compile(r"(?i)\bsig=[^&\s\"]+")


def redact(value: Any) -> Any:
    """A copy in which secrets are replaced: values under telling names, tokens and SAS signatures inside any text."""
    if isinstance(value, dict):
        return {
            name: "<secret>" if name.lower() in SECRET_KEYS and isinstance(item, str) else redact(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [redact(item) for item in value]
    if isinstance(value, str):
        return SIGNATURE.sub("sig=<signature>", TOKEN.sub("<token>", value))
    return value


def readable(body: bytes) -> Any:
    """A body as the log keeps it: redacted JSON, or its size when it is something else or too long."""
    if not body:
        return None
    if len(body) > BODY_LIMIT:
        return f"<{len(body)} bytes>"
    try:
        return redact(json.loads(body))
    except ValueError:
        return f"<{len(body)} bytes>"


class RequestLog:
    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()

    def write(self, started: float, **entry: Any) -> None:
        line = json.dumps({"time": started, "ms": round((time.time() - started) * 1000, 1), **entry})
        with self._lock, self._path.open("a") as file:
            file.write(line + "\n")
