"""What every handler may reach: the settings of this emulator and its shared parts."""

from __future__ import annotations

import json
import os
import secrets
from base64 import b64encode
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.fault_plan import Faults
    from emulator.identity import Tokens
    from emulator.operations import Operations
    from emulator.processes import Processes
    from emulator.storage import Storage
    from emulator.store import Store
    from emulator.tracking_server import TrackingServer

TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
SUBSCRIPTION = "33333333-3333-3333-3333-333333333333"
SUBJECT = "repo:acme/phi-release-train:ref:refs/heads/main"


@dataclass(frozen=True)
class Settings:
    """Everything that distinguishes one emulator from another. Kept in HOME/settings.json (mode 600: it holds keys)."""

    home: Path
    region: str = "eastus2"
    tenant_id: str = TENANT
    client_id: str = CLIENT
    subscription_id: str = SUBSCRIPTION
    federated_subject: str = SUBJECT
    operation_seconds: float = 0.1
    azurite_port: int = 0
    server_port: int = 0
    proxy_port: int = 0
    mlflow_port: int = 0
    storage_account: str = "localazuremlstore"
    storage_key: str = ""
    identity_secret: str = ""
    faults: str = ""  # path of the fault plan; "" when everything is to work
    session: str = ""  # marks every process of this run in its environment, so that none can be left behind

    @property
    def arm(self) -> str:
        return "https://management.azure.com"

    @property
    def api(self) -> str:
        return f"https://{self.region}.api.azureml.ms"

    @property
    def blob(self) -> str:
        return f"https://{self.storage_account}.blob.core.windows.net"

    @property
    def ca(self) -> Path:
        return self.home / "ca.pem"

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.proxy_port}"

    def save(self) -> None:
        """Write HOME/settings.json beside itself first, so that a reader never sees half of it."""
        text = json.dumps({**asdict(self), "home": str(self.home)}, indent=1)
        beside = self.home / "settings.json.new"
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        beside.replace(self.home / "settings.json")

    @classmethod
    def load(cls, home: Path) -> Settings:
        """Read HOME/settings.json; unknown keys (of another version) are ignored. OSError, ValueError as they come."""
        known = {field.name for field in fields(cls)}
        raw = json.loads((home / "settings.json").read_text())
        return cls(**{**{key: value for key, value in raw.items() if key in known}, "home": home})


def new_storage_key() -> str:
    return b64encode(secrets.token_bytes(64)).decode()


@dataclass(frozen=True)
class Emulator:
    settings: Settings
    store: Store
    storage: Storage
    operations: Operations
    processes: Processes
    tokens: Tokens
    tracking: TrackingServer
    faults: Faults | None = None  # None, and nothing asks, unless a fault plan was given
