"""Deployments without code: a registered model in MLflow's form, for which the service brings server and packages."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulator.containers import STAND_INS
from emulator.context import Emulator
from emulator.errors import ArmError

MODEL_TYPE = "mlflow_model"
SCRIPT = "no_code_server.py"


def is_no_code(properties: Mapping[str, Any]) -> bool:
    """Whether a deployment names neither code nor environment."""
    return not properties.get("codeConfiguration") and not properties.get("environmentId")


def check(emulator: Emulator, properties: Mapping[str, Any]) -> None:
    """ArmError 400 for a deployment without code or environment whose model is none that the service can serve."""
    if properties.get("codeConfiguration") and not properties.get("environmentId"):
        raise ArmError(400, "BadArgument", "The deployment has no environmentId, and its code needs one.")
    if not is_no_code(properties):
        return
    model = emulator.store.get(str(properties.get("model"))) or {"properties": {}}
    kind = model["properties"].get("modelType") or "custom_model"
    if kind != MODEL_TYPE:
        message = (
            f"The deployment has no environmentId and no codeConfiguration: only models of type {MODEL_TYPE} are "
            f"served without them, and this one is a {kind}."
        )
        raise ArmError(400, "BadArgument", message)
    if str(properties.get("egressPublicNetworkAccess", "Enabled")).lower() == "disabled":
        message = f"A {MODEL_TYPE} without an environment installs its packages: it needs egressPublicNetworkAccess."
        raise ArmError(400, "BadArgument", message)


def place_script(code: Path) -> str:
    """Put the stand-in of the service's scoring script there; returns its name."""
    shutil.copy(STAND_INS / SCRIPT, code / SCRIPT)
    return SCRIPT
