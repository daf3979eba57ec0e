"""Every resource the emulator knows, in one SQLite file: ARM id -> JSON. Ids are case-insensitive, as in Azure.

Keys of a resource that begin with "_" are the emulator's own and are never sent (`public` strips them).
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulator.errors import ArmError

Resource = dict[str, Any]


def public(resource: Resource) -> Resource:
    """The resource as a client may see it: without the top-level keys that begin with an underscore."""
    return {key: value for key, value in resource.items() if not key.startswith("_")}


def key_of(resource_id: str) -> str:
    return "/" + resource_id.strip("/").lower()


class Store:
    """Thread-safe: one connection, one lock. What comes out is a copy; only `put` and `update` change anything."""

    def __init__(self, path: Path | str) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(str(path), check_same_thread=False, isolation_level=None)
        # Losing the last second on a power cut is fine here; waiting for the disk at every write is not.
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE IF NOT EXISTS resources (key TEXT PRIMARY KEY, body TEXT NOT NULL)")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def get(self, resource_id: str) -> Resource | None:
        with self._lock:
            row = self._db.execute("SELECT body FROM resources WHERE key = ?", (key_of(resource_id),)).fetchone()
        return json.loads(row[0]) if row else None

    def need(self, resource_id: str, what: str = "Resource") -> Resource:
        """Like `get`, but ArmError 404 names `what` when there is none."""
        found = self.get(resource_id)
        if found is None:
            name = resource_id.rstrip("/").rsplit("/", 1)[-1]
            code = "ResourceNotFound" if resource_id.count("/") <= 8 else "UserError"
            raise ArmError(404, code, f"{what} '{name}' was not found. (id: {resource_id})")
        return found

    def put(self, resource_id: str, resource: Resource) -> Resource:
        text = json.dumps(resource)
        with self._lock:
            self._db.execute(
                "INSERT INTO resources (key, body) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET body = excluded.body",
                (key_of(resource_id), text),
            )
        return json.loads(text)

    def update(self, resource_id: str, change: Callable[[Resource], None]) -> Resource:
        """Read, change in place, write, as one step that no other thread can come between. ArmError 404 if absent."""
        with self._lock:
            resource = self.need(resource_id)
            change(resource)
            return self.put(resource_id, resource)

    def delete(self, resource_id: str) -> None:
        """Remove a resource and everything below it; nothing happens when it is not there."""
        key = key_of(resource_id)
        with self._lock:
            self._db.execute(
                "DELETE FROM resources WHERE key = ? OR substr(key, 1, ?) = ?", (key, len(key) + 1, key + "/")
            )

    def children(self, prefix: str) -> list[Resource]:
        """Resources directly below `prefix`, oldest first: …/jobs gives …/jobs/a but not …/jobs/a/b."""
        start = key_of(prefix) + "/"
        sql = "SELECT body FROM resources WHERE substr(key, 1, ?) = ? AND instr(substr(key, ?), '/') = 0 ORDER BY rowid"
        with self._lock:
            rows = self._db.execute(sql, (len(start), start, len(start) + 1)).fetchall()
        return [json.loads(row[0]) for row in rows]

    def find(self, id_regex: str) -> list[Resource]:
        """Resources whose whole id matches the pattern, case-insensitively, oldest first."""
        pattern = re.compile(id_regex, re.IGNORECASE)
        with self._lock:
            rows = self._db.execute("SELECT key, body FROM resources ORDER BY rowid").fetchall()
        return [json.loads(body) for key, body in rows if pattern.fullmatch(key)]
