"""The data collector beside each scoring server: takes what the scoring script hands it, files it as blobs.

On Azure this is a container next to the model's. A scoring script reaches it through the package azureml-ai-monitoring,
whose way to it is one HTTP request for each batch of rows: POST /modeldata/log with JSON records as the body and the
rest of the event in headers. Rows end up in the workspace's blob store under
modelDataCollector/ENDPOINT/DEPLOYMENT/COLLECTION/yyyy/MM/dd/HH/INSTANCE.jsonl, one event a line.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
import uuid
from collections import defaultdict
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.storage import container_of

if TYPE_CHECKING:
    from emulator.context import Emulator
    from emulator.store import Resource

PATH = "/modeldata/log"
FOLDER = "modelDataCollector"
PREFIX = "azureml.inference."
FLUSH_SECONDS = 0.5
ROLLS = {"year": "%Y", "month": "%Y/%m", "day": "%Y/%m/%d", "hour": "%Y/%m/%d/%H", "minute": "%Y/%m/%d/%H/%M"}
PAYLOAD = ("request", "response")  # the service's own collections; a scoring script cannot write them
log = logging.getLogger(__name__)


class DataCollector:
    """Listens for one server on this machine until `stop`."""

    def __init__(self, emulator: Emulator, deployment: Resource) -> None:
        given = deployment["properties"]["dataCollector"]
        self.collections = {
            name.lower(): {
                "enabled": str(each.get("dataCollectionMode", "")).lower() == "enabled",
                "sampleRatePercentage": 100.0 * _share(each.get("samplingRate")),
            }
            for name, each in (given.get("collections") or {}).items()
        }
        self._roll = ROLLS[str(given.get("rollingRate") or "hour").lower()]
        self._emulator, self._deployment = emulator, deployment
        self._instance = uuid.uuid4().hex
        self._lines: dict[str, list[bytes]] = defaultdict(list)
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        for work in (self._server.serve_forever, self._flush_again_and_again):
            threading.Thread(target=work, name="data-collector", daemon=True).start()

    def environment(self, folder: Path) -> dict[str, str]:
        """What leads the scoring script here. Writes the configuration that Azure mounts into the container."""
        file = folder / "mdc.json"
        file.write_text(json.dumps({"runMode": "cloud", "collections": self.collections}))
        return {
            "AZUREML_MDC_CONFIG_PATH": str(file),
            "AZUREML_MDC_HOST": "127.0.0.1",
            "AZUREML_MDC_PORT": str(self._server.server_address[1]),
        }

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self.flush()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """File one event; the status for whoever sent it."""
        name = headers.get("ce-type", "").removeprefix(PREFIX).lower()
        if name in PAYLOAD or not self.collections.get(name, {}).get("enabled"):
            return 400
        try:
            at = datetime.fromtimestamp(int(headers.get("ce-time") or time.time()), UTC)
            data = json.loads(body)
        except (ValueError, OverflowError, OSError):
            return 400
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": headers.get("trace-id") or str(uuid.uuid4()),
            "source": self._deployment["id"],
            "type": f"{PREFIX}{name}",
            "datacontenttype": headers.get("content-type", "application/json"),
            "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
            "data": data,
            "correlationid": headers.get("ce-x-request-id", ""),
            "xrequestid": headers.get("ce-x-request-id", ""),
            "modelversion": headers.get("ce-model-version", ""),
            "collectdatatype": headers.get("ce-collect-data-type", ""),
            "agent": headers.get("ce-agent", ""),
            "contentrange": f"bytes 0-{max(0, len(body) - 1)}/{len(body)}",
        }
        endpoint, deployment = (self._deployment["id"].split("/")[at] for at in (10, 12))
        blob = f"{FOLDER}/{endpoint}/{deployment}/{name}/{at:{self._roll}}/{self._instance}.jsonl"
        with self._lock:
            self._lines[blob].append(json.dumps(event, ensure_ascii=False).encode() + b"\n")
        return 200

    def flush(self) -> None:
        """Append what has come to its blobs; what cannot be written is kept for the next time."""
        with self._lock:
            waiting, self._lines = self._lines, defaultdict(list)
        workspace = self._emulator.store.get("/".join(self._deployment["id"].split("/")[:9]))
        if workspace is None:
            return
        container = container_of(workspace, "workspaceblobstore")
        for blob, lines in waiting.items():
            try:
                self._append(container, blob, b"".join(lines))
            except Exception as error:
                log.warning("rows for %s wait: %s", blob, error)
                with self._lock:
                    self._lines[blob] = lines + self._lines[blob]

    def _append(self, container: str, blob: str, data: bytes) -> None:
        self._emulator.storage.ensure_container(container)
        client = self._emulator.storage.service().get_blob_client(container, blob)
        if not client.exists():
            client.create_append_blob()
        client.append_block(data)

    def _flush_again_and_again(self) -> None:
        while not self._stopped.wait(FLUSH_SECONDS * random.uniform(0.8, 1.2)):  # noqa: S311 (chance, not secrecy)
            if self._lines:
                self.flush()


def _share(given: Any) -> float:
    return 1.0 if given is None else float(given)


def collector_of(emulator: Emulator, deployment: Resource) -> DataCollector | None:
    """A collector for a server about to start; None when its deployment collects nothing of its own."""
    collections = (deployment["properties"].get("dataCollector") or {}).get("collections") or {}
    on = [name for name, each in collections.items() if str(each.get("dataCollectionMode", "")).lower() == "enabled"]
    return DataCollector(emulator, deployment) if set(on) - set(PAYLOAD) else None


def _handler(collector: DataCollector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(collector.take(headers, body) if self.path == PATH else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    return Handler
