"""The unmodified SDK against the real emulator: groups, identities, workspaces, compute and versioned assets."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_workspace_says_where_its_services_are(ml_client: Any) -> None:
    workspace = ml_client.workspaces.get("ws-mlops")
    assert workspace.location == "eastus2"
    assert workspace.discovery_url == "https://eastus2.api.azureml.ms/discovery"
    assert workspace.mlflow_tracking_uri.startswith("azureml://eastus2.api.azureml.ms/mlflow/v")
