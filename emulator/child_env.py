"""Environment variables that lead a process to the emulator and nowhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlencode

from emulator.context import Emulator, Settings
from emulator.processes import MARK

# Of the parent's environment a child gets only these: the rest may hold secrets or point elsewhere.
INHERITED = ("LANG", "LC_ALL", "TZ", "TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HOME", "NLTK_DATA")
NO_TELEMETRY = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "AZURE_CORE_COLLECT_TELEMETRY": "no",
    "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no",
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "WANDB_MODE": "disabled",
    "ORT_DISABLE_TELEMETRY": "1",
}
PF_CONFIG = "telemetry:\n  enabled: false\ntrace:\n  destination: none\n"


def network(settings: Settings) -> dict[str, str]:
    """Proxies, certificates, telemetry off: what every process near the emulator needs."""
    ca, proxy = str(settings.ca), settings.proxy
    lead = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": "127.0.0.1,localhost"}
    trust = {"REQUESTS_CA_BUNDLE": ca, "SSL_CERT_FILE": ca, "CURL_CA_BUNDLE": ca}
    return {
        **lead,
        **{name.lower(): value for name, value in lead.items()},  # curl and httpx read these, and prefer them
        **trust,
        **NO_TELEMETRY,
        "PF_HOME_DIRECTORY": str(settings.home / "promptflow"),
    }


def child_environment(emulator: Emulator) -> dict[str, str]:
    """The whole environment of a job or a scoring server: this python first on PATH, the way to the emulator, no more.

    The caller adds HOME and what its task needs (see `managed_identity` for a login).
    """
    settings = emulator.settings
    path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {"PATH": path, "PYTHONUNBUFFERED": "1", MARK: settings.session, **inherited, **network(settings)}


def managed_identity(emulator: Emulator, client_id: str = "") -> dict[str, str]:
    """A login for a job or a scoring server, as on Azure ML compute (read by ManagedIdentityCredential)."""
    settings = emulator.settings
    login = {
        "MSI_ENDPOINT": f"https://localhost:{settings.server_port}/msi/token",
        "MSI_SECRET": settings.identity_secret,
    }
    return {**login, "DEFAULT_IDENTITY_CLIENT_ID": client_id} if client_id else login


def command_environment(settings: Settings) -> dict[str, str]:
    """What is laid over the user's own environment for their command: the above plus a workload-identity login."""
    return {
        **network(settings),
        "AZURE_TENANT_ID": settings.tenant_id,
        "AZURE_CLIENT_ID": settings.client_id,
        "AZURE_SUBSCRIPTION_ID": settings.subscription_id,
        "AZURE_FEDERATED_TOKEN_FILE": str(settings.home / "github-oidc.jwt"),
        # jobs.stream() starts at MIN seconds between polls and backs off to MAX (2 and 60 by default).
        "AZUREML_RUN_POLLING_INTERVAL_MIN": "1",
        "AZUREML_RUN_POLLING_INTERVAL_MAX": "1",
        # Runs that nothing in Azure would ever see stay out of the user's own az and config folders.
        "AZURE_CONFIG_DIR": str(settings.home / "azure"),
    }


def github_job_environment(settings: Settings, subject: str = "", seconds: float = 300) -> dict[str, str]:
    """The above as a GitHub job sees it: no assertion in a file, but an address that gives one for `subject`."""
    query = urlencode({"api-version": "2.0", "subject": subject, "seconds": seconds})
    login = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"https://pipelines.actions.githubusercontent.com/idtoken?{query}",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": settings.identity_secret,
    }
    kept = command_environment(settings)
    del kept["AZURE_FEDERATED_TOKEN_FILE"]
    return {**kept, **login}
