"""A throw-away certificate authority and one server certificate for the Azure host names that are emulated."""

from __future__ import annotations

from pathlib import Path

from emulator.context import Settings


def host_names(settings: Settings) -> list[str]:
    return [
        "management.azure.com",
        "login.microsoftonline.com",
        "pipelines.actions.githubusercontent.com",
        f"{settings.storage_account}.blob.core.windows.net",
        "*.api.azureml.ms",
        f"{settings.region}.metrics.monitor.azure.com",
        "api.loganalytics.io",
        "api.loganalytics.azure.com",
        f"cert-{settings.region}.experiments.azureml.net",
        f"*.{settings.region}.inference.ml.azure.com",
        f"*.{settings.region}.models.ai.azure.com",
        "localhost",
        "127.0.0.1",
    ]


def ensure_certificates(settings: Settings) -> tuple[Path, Path]:
    """Make HOME/ca.pem, server.pem and server.key unless they are there; returns (certificate chain, key).

    The authority's own key is never written: after this call nobody can sign another name with it.
    """
    chain, key = settings.home / "server.pem", settings.home / "server.key"
    if not (settings.ca.exists() and chain.exists() and key.exists()):
        import trustme

        authority = trustme.CA(organization_name="Local Azure ML (this machine only)")
        issued = authority.issue_cert(*host_names(settings))
        key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(str(key))
        chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        authority.cert_pem.write_to_path(str(settings.ca))
    return chain, key
