"""A registry's data plane: discovery, and the models and components of the seeded catalogue (registry_catalogue.yaml).

Nothing can be written to it, as the system registry `azureml` cannot be written to by its users.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import yaml
from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.routing import ML, REGISTRY, Call, route

REGISTRY_NAME = "azureml"
SUBSCRIPTION, GROUP = "00000000-0000-0000-0000-00000000a221", "registry-rg"
SCOPE = (
    r"/mferp/managementfrontend/subscriptions/[^/]+/resourceGroups/[^/]+"
    r"/providers/Microsoft\.MachineLearningServices/registries/(?P<registry>[^/]+)"
)
KIND = SCOPE + r"/(?P<kind>models|components)"
ASSET = re.compile(
    r"azureml:/*registries/(?P<registry>[^/]+)/(?P<kind>models|components)/(?P<name>[^/]+)"
    r"/(?:versions|labels)/(?P<version>[^/]+)/?",
    re.IGNORECASE,
)
BORN = "2026-11-01T00:00:00.000000Z"


@functools.cache
def catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    """Kind ("models", "components") -> name -> entry."""
    seeded = yaml.safe_load(Path(__file__).with_name("registry_catalogue.yaml").read_text(encoding="utf-8"))
    return {kind: {each["name"]: each for each in entries} for kind, entries in seeded.items()}


def find(uri: str, kind: str) -> tuple[dict[str, Any], str]:
    """The entry and version that an id of the registry names. ArmError 404 for one that it does not have."""
    found = ASSET.fullmatch(uri)
    if found is None or found["kind"].lower() != kind or found["registry"].lower() != REGISTRY_NAME:
        raise ArmError(404, "UserError", f"'{uri}' is none of the {kind} of registry '{REGISTRY_NAME}'.")
    return _entry(found["registry"], kind, found["name"], found["version"])


def _entry(registry: str, kind: str, name: str, version: str = "") -> tuple[dict[str, Any], str]:
    entry = catalogue()[kind].get(name) if registry.lower() == REGISTRY_NAME else None
    version = entry["versions"][-1] if entry and version == "latest" else version
    if entry is None or (version and version not in entry["versions"]):
        asked = f"{name}:{version}" if version else name
        raise ArmError(404, "UserError", f"{kind.rstrip('s').capitalize()} '{asked}' was not found in '{registry}'.")
    return entry, version


@route("GET", ML, r"/registrymanagement/v1\.0/registries/(?P<registry>[^/]+)/discovery")
def discovery(call: Call) -> Response:
    """Where the registry answers; the SDK asks before anything else."""
    name, region = call.args["registry"], call.emulator.settings.region
    if name.lower() != REGISTRY_NAME:
        raise ArmError(404, "RegistryNotFound", f"Registry '{name}' was not found.")
    place = f"https://cert-{region}.experiments.azureml.net"
    return JSONResponse(
        {
            "registryName": name,
            "primaryRegionResourceProviderUri": f"{place}/",
            "resourceGroup": GROUP,
            "subscriptionId": SUBSCRIPTION,
            "registryFqdns": {region: {"uri": place}},
        }
    )


def _resource(kind: str, entry: dict[str, Any], version: str, properties: dict[str, Any]) -> dict[str, Any]:
    inner = f"/versions/{version}" if version else ""
    return {
        "id": f"azureml://registries/{REGISTRY_NAME}/{kind}/{entry['name']}{inner}",
        "name": version or entry["name"],
        "type": kind,
        "systemData": {"createdAt": BORN, "createdBy": "Microsoft", "createdByType": "User", "lastModifiedAt": BORN},
        "properties": {"isArchived": False, "properties": {}, "description": None, **properties},
    }


def versioned(kind: str, entry: dict[str, Any], version: str) -> dict[str, Any]:
    """A version as the service shows it."""
    tags = {key: str(value).strip() for key, value in (entry.get("tags") or {}).items() if value is not None}
    if kind == "models":
        uri = f"azureml://registries/{REGISTRY_NAME}/models/{entry['name']}/versions/{version}"
        more: dict[str, Any] = {"modelType": entry["type"], "modelUri": uri, "flavors": {}, "stage": None}
    else:
        specification = {
            "name": entry["name"],
            "version": version,
            "display_name": entry["display_name"],
            "is_deterministic": False,
            "type": "pipeline",
            "inputs": entry["inputs"],
            "outputs": entry["outputs"],
            "_source": "YAML.COMPONENT",
        }
        more = {"componentSpec": specification, "isAnonymous": False}
    return _resource(kind, entry, version, {"tags": tags, "provisioningState": "Succeeded", **more})


@route("GET", REGISTRY, KIND + r"/(?P<name>[^/]+)/versions/(?P<version>[^/]+)")
def get_version(call: Call) -> Response:
    kind = call.args["kind"].lower()
    entry, version = _entry(call.args["registry"], kind, call.args["name"], call.args["version"])
    return JSONResponse(versioned(kind, entry, version))


@route("GET", REGISTRY, KIND + r"/(?P<name>[^/]+)/versions")
def list_versions(call: Call) -> Response:
    """The newest first; `latest` is the first of them."""
    kind, top = call.args["kind"].lower(), call.query.get("$top", "")
    entry, _ = _entry(call.args["registry"], kind, call.args["name"])
    newest = [versioned(kind, entry, version) for version in reversed(entry["versions"])]
    return JSONResponse({"value": newest[: int(top)] if top.isdigit() else newest})


@route("GET", REGISTRY, KIND + r"/(?P<name>[^/]+)")
def get_container(call: Call) -> Response:
    kind = call.args["kind"].lower()
    entry, _ = _entry(call.args["registry"], kind, call.args["name"])
    newest = {"latestVersion": entry["versions"][-1], "nextVersion": "", "tags": {}}
    return JSONResponse(_resource(kind, entry, "", newest))


@route("GET", REGISTRY, KIND)
def list_assets(call: Call) -> Response:
    kind = call.args["kind"].lower()
    shown = [
        _resource(kind, entry, "", {"latestVersion": entry["versions"][-1], "nextVersion": "", "tags": {}})
        for entry in catalogue()[kind].values()
    ]
    return JSONResponse({"value": shown})


@route("PUT|POST|PATCH|DELETE", REGISTRY, SCOPE + r"/.+")
def read_only(call: Call) -> Response:
    raise ArmError(403, "AuthorizationFailed", f"Registry '{call.args['registry']}' can only be read.")
