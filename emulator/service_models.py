"""The models that the service itself fine-tunes and hosts: where it does, and whether they are bought on Marketplace.

One small model stands behind all of them (EMULATOR_SERVICE_MODEL: its folder; default the demo's), so that fine-tuning
and answering are real work here.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from emulator.errors import ArmError
from emulator.store import Resource, Store

TABLE = Path(__file__).with_name("service_models.yaml")
ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "EMULATOR_SERVICE_MODEL"
CATALOGUE = re.compile(
    r"azureml:/*registries/(?P<registry>[^/]+)/models/(?P<name>[^/]+)(?:/(?:versions|labels)/[^/]+)?/?", re.IGNORECASE
)


@dataclass(frozen=True)
class ServiceModel:
    registry: str
    name: str
    partner: bool
    retired: dt.date | None
    fine_tune: tuple[str, ...]
    deploy: tuple[str, ...]


@functools.cache
def table() -> dict[tuple[str, str], ServiceModel]:
    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["models"]
    found = [
        ServiceModel(**{**row, "fine_tune": tuple(row["fine_tune"]), "deploy": tuple(row["deploy"])}) for row in rows
    ]
    return {(each.registry.lower(), each.name.lower()): each for each in found}


def find(uri: str) -> ServiceModel | None:
    """The model of a catalogue URI (with or without a version); None when the URI is of something else.

    ArmError 404 for one that the service does not offer.
    """
    named = CATALOGUE.fullmatch(uri)
    if named is None:
        return None
    model = table().get((named["registry"].lower(), named["name"].lower()))
    if model is None:
        raise ArmError(
            404, "UserError", f"Model '{named['name']}' of registry '{named['registry']}' is not offered as a service."
        )
    return model


def check(store: Store, workspace: Resource, model: ServiceModel, what: str) -> None:
    """ArmError 400 when the model cannot be had for `what` ("fine-tuning" or "deployment") in this workspace."""
    regions = model.fine_tune if what == "fine-tuning" else model.deploy
    region = str(workspace["location"]).lower().replace(" ", "")
    if model.retired and model.retired <= dt.datetime.now(dt.UTC).date():
        raise ArmError(400, "UserError", f"Model '{model.name}' was retired on {model.retired}: choose another one.")
    if region not in regions:
        offered = f"supported regions: {', '.join(regions)}" if regions else f"it is not offered for {what} anywhere"
        raise ArmError(
            400, "UserError", f"Model '{model.name}' is not supported for {what} in region '{region}'; {offered}."
        )
    if model.partner and not subscribed(store, workspace["id"], model):
        raise ArmError(
            400,
            "UserError",
            f"Model '{model.name}' is offered through Azure Marketplace: create a marketplace subscription first.",
        )


def subscribed(store: Store, wsid: str, model: ServiceModel) -> Resource | None:
    """The workspace's Marketplace subscription to a model."""
    wanted = f"azureml://registries/{model.registry}/models/{model.name}".lower()
    for each in store.children(f"{wsid}/marketplaceSubscriptions"):
        properties = each["properties"]
        if properties["modelId"].lower().rstrip("/") == wanted and properties["provisioningState"] == "Succeeded":
            return each
    return None


def weights() -> Path:
    """The folder that stands behind every model of the catalogue. ArmError 500 when it is not there."""
    folder = Path(os.environ.get(WEIGHTS) or ROOT / ".cache" / "smollm2-135m-instruct")
    if not (folder / "config.json").is_file():
        raise ArmError(
            500, "ServiceError", f"The local Azure ML has no model in {folder}: run `make setup`, or set {WEIGHTS}."
        )
    return folder
