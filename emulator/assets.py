"""Versioned assets (environments, data, code, models): once registered, only tags, description and archiving change."""

from __future__ import annotations

import re
import shutil
import uuid
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.resources import PROVIDER, answer, answer_list, system_data
from emulator.routing import ARM, WORKSPACE, Call, route
from emulator.storage import locate
from emulator.store import Resource

KIND = WORKSPACE + r"/(?P<kind>models|environments|codes|data)"
ASSET = KIND + r"/(?P<name>[^/]+)"
VERSION = ASSET + r"/versions/(?P<version>[^/]+)"
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_.]{0,254}")
VERSION_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_.]{0,254}")
SHORT_URI = re.compile(r"azureml:/*datastores/([^/]+)/paths/(.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Rules:
    """What is special about one kind of asset."""

    what: str
    required: tuple[str, ...]  # a PUT without one of these is refused
    frozen: tuple[str, ...]  # a later PUT may not change these
    uri: str | None  # the property that says where the bytes are
    conflict: ArmError


DATA_CONFLICT = (
    "A data version with this name and version already exists. If you are trying to create a new data asset, use a "
    "different name or version. If you are trying to update an existing data asset, the existing asset's data uri "
    "cannot be changed. Only tags, description, and isArchived can be updated."
)
PATHS = ArmError(400, "UserError", "Asset paths cannot be updated.")
RULES = {
    "models": Rules("Model", ("modelUri",), ("modelUri", "modelType"), "modelUri", PATHS),
    "codes": Rules("Code", ("codeUri",), ("codeUri",), "codeUri", PATHS),
    "data": Rules(
        "Data", ("dataUri", "dataType"), ("dataUri", "dataType"), "dataUri", ArmError(409, "UserError", DATA_CONFLICT)
    ),
    "environments": Rules(
        "Environment",
        (),
        ("image", "condaFile", "build", "osType", "inferenceConfig"),
        None,
        ArmError(
            409, "UserError", "An environment version with this name and version already exists and is different."
        ),
    ),
}


def kind_of(call: Call) -> str:
    return call.args["kind"].lower()


def asset_id(call: Call) -> str:
    return f"{call.args['wsid']}/{kind_of(call)}/{call.args['name']}"


def complete_uri(call: Call, uri: str, folder: bool) -> str:
    """A URI as the service stores it: job outputs resolved, datastore paths in full, a slash after a folder."""
    if re.match(r"azureml:.*\bjobs/", uri):
        from emulator.models_from_jobs import resolve_job_uri

        uri = resolve_job_uri(call.emulator, call.args["wsid"], uri)
    if short := SHORT_URI.fullmatch(uri):
        scope = f"subscriptions/{call.args['sub']}/resourceGroups/{call.args['rg']}/workspaces/{call.args['ws']}"
        uri = f"azureml://{scope}/datastores/{short[1]}/paths/{short[2]}"
    return uri + "/" if folder and uri.startswith("azureml:") and not uri.endswith("/") else uri


def complete(call: Call, kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """The properties with what the service fills in. ArmError 400 or 404 when they cannot stand."""
    rules, properties = RULES[kind], dict(given)
    for name in ("properties", "tags"):  # maps of strings; the SDK sends the number `hash_version` in one
        if isinstance(properties.get(name), dict):
            properties[name] = {key: each if each is None else str(each) for key, each in properties[name].items()}
    missing = [name for name in rules.required if not properties.get(name)]
    if missing:
        raise ArmError(400, "UserError", f"{rules.what} '{call.args['name']}' lacks {', '.join(missing)}.")
    if rules.uri:
        folder = kind == "data" and properties["dataType"] in ("uri_folder", "mltable")
        properties[rules.uri] = complete_uri(call, properties[rules.uri], folder)
        if not properties[rules.uri].startswith(("http://", "wasbs://", "azureml://registries/")):
            locate(call.emulator, call.emulator.store.need(call.args["wsid"], "Workspace"), properties[rules.uri])
    if kind == "models":
        properties = {"flavors": {}, "isArchived": False, **_set(properties), "provisioningState": "Succeeded"}
    if kind == "environments":
        if not (properties.get("image") or properties.get("build")):
            raise ArmError(400, "UserError", f"Environment '{call.args['name']}' needs an image or a build context.")
        filled = {"environmentType": "UserCreated", "provisioningState": "Succeeded"}
        properties = {"osType": "Linux", **_set(properties), **filled}
    return properties


def _same(value: Any) -> Any:
    """For comparing: the scope of a URI is not case-sensitive, and the SDK writes it in its own way."""
    if isinstance(value, str) and (found := re.match(r"azureml://subscriptions/.*?/workspaces/[^/]+", value, re.I)):
        return found[0].lower() + value[found.end() :].rstrip("/")
    return value or None


def _set(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if value is not None}


def update_container(call: Call, version: Resource) -> None:
    """Keep the asset's container (the name without a version) in step: latest and next version."""
    store, path, kind = call.emulator.store, asset_id(call), kind_of(call)
    numbers = [int(each["name"]) for each in store.children(f"{path}/versions") if each["name"].isdigit()]
    old = store.get(path)
    fresh: Resource = {
        "id": path,
        "name": call.args["name"],
        "type": f"{PROVIDER}/workspaces/{kind}",
        "systemData": system_data(call, old),
        "properties": {"isArchived": False, "tags": {}, "properties": {}, "description": None},
    }
    container = old or fresh
    newest = {"latestVersion": version["name"], "nextVersion": str(max(numbers, default=0) + 1)}
    container["properties"] |= newest if kind != "codes" else {}
    if kind == "data":
        container["properties"].setdefault("dataType", version["properties"]["dataType"])
    store.put(path, container)


@route("POST", ARM, VERSION + r"/startPendingUpload")
def start_pending_upload(call: Call) -> Response:
    """A fresh container and a SAS for it: where the SDK uploads a code folder before it registers it."""
    workspace = call.emulator.store.need(call.args["wsid"], "Workspace")
    container = f"{kind_of(call)[:4]}-{uuid.uuid4().hex[:24]}"
    call.emulator.storage.ensure_container(container)
    reference = {
        "blobUri": f"{call.emulator.settings.blob}/{container}",
        "storageAccountArmId": workspace["properties"]["storageAccount"],
        "credential": {"credentialType": "SAS", "sasUri": call.emulator.storage.container_sas(container)},
    }
    upload = {"pendingUploadId": str(uuid.uuid4()), "pendingUploadType": "TemporaryBlobReference"}
    return JSONResponse({**upload, "blobReferenceForConsumption": reference})


@route("PUT", ARM, VERSION)
def put(call: Call) -> Response:
    store, kind, version = call.emulator.store, kind_of(call), call.args["version"]
    store.need(call.args["wsid"], "Workspace")
    for name, pattern in ((call.args["name"], NAME), (version, VERSION_NAME)):
        if not pattern.fullmatch(name):
            message = f"'{name}' is not a valid asset name or version: letters, digits, '-', '_' and '.', at most 255."
            raise ArmError(400, "UserError", message)
    given = call.json().get("properties")
    if not isinstance(given, dict):
        raise ArmError(400, "InvalidRequestContent", "The request has no properties.")
    properties = complete(call, kind, given)
    path = f"{asset_id(call)}/versions/{version}"
    old, rules = store.get(path), RULES[kind]
    if old:
        before = old["properties"]
        if any(_same(before.get(name)) != _same(properties.get(name)) for name in rules.frozen):
            raise ArmError(rules.conflict.status, rules.conflict.code, rules.conflict.message)
        properties = {**before, **properties}
    resource = {
        **{key: value for key, value in (old or {}).items() if key.startswith("_")},  # where the service keeps weights
        "id": path,
        "name": version,
        "type": f"{PROVIDER}/workspaces/{kind}/versions",
        "systemData": system_data(call, old),
        "properties": properties,
    }
    stored = store.put(path, resource)
    if not old:
        update_container(call, stored)
    return answer(stored, 200 if old else 201)


@route("GET", ARM, VERSION)
def get(call: Call) -> Response:
    what = f"{RULES[kind_of(call)].what} version"
    return answer(call.emulator.store.need(f"{asset_id(call)}/versions/{call.args['version']}", what))


@route("DELETE", ARM, VERSION)
def delete(call: Call) -> Response:
    store, path = call.emulator.store, f"{asset_id(call)}/versions/{call.args['version']}"
    deployed = store.find(rf"{re.escape(call.args['wsid'])}/onlineendpoints/[^/]+/deployments/[^/]+")
    users = [each["name"] for each in deployed if str(each["properties"].get("model")).lower() == path.lower()]
    if users:
        raise ArmError(
            409, "UserError", f"Model version '{path}' is deployed as {', '.join(users)}; delete that first."
        )
    served = [
        each["name"]
        for each in store.children(f"{call.args['wsid']}/serverlessEndpoints")
        if str(each.get("_model")).lower() == path.lower()
    ]
    if served:
        message = (
            f"You can't delete custom model '{path}': it has an existing deployment, {served[0]}. "
            "You must first delete your model deployment before you delete your custom model."
        )
        raise ArmError(409, "UserError", message)
    existed = store.get(path)
    if existed and existed.get("_weights"):
        shutil.rmtree(existed["_weights"], ignore_errors=True)
    store.delete(path)
    return Response(status_code=200 if existed else 204)


def visible(call: Call, found: list[Resource]) -> list[Resource]:
    """Those that listViewType (ActiveOnly unless told) lets through, newest first, cut at $top."""
    view = call.query.get("listViewType", "ActiveOnly").lower()
    if view in ("activeonly", "archivedonly"):
        found = [each for each in found if bool(each["properties"].get("isArchived")) == (view == "archivedonly")]
    found = sorted(found, key=lambda each: each["systemData"]["createdAt"], reverse=True)
    top = call.query.get("$top", "")
    return found[: int(top)] if top.isdigit() else found


@route("GET", ARM, ASSET + r"/versions")
def list_versions(call: Call) -> Response:
    found = call.emulator.store.children(f"{asset_id(call)}/versions")
    if wanted := call.query.get("hash"):
        found = [each for each in found if (each["properties"].get("properties") or {}).get("hash_sha256") == wanted]
    return answer_list(visible(call, found))


@route("GET", ARM, ASSET)
def get_container(call: Call) -> Response:
    return answer(call.emulator.store.need(asset_id(call), RULES[kind_of(call)].what))


@route("PUT", ARM, ASSET)
def put_container(call: Call) -> Response:
    """Archive or describe all versions at once; the SDK does it with `archive(name)`."""
    wanted = call.json().get("properties") or {}
    kept = {name: wanted[name] for name in ("isArchived", "tags", "properties", "description") if name in wanted}
    call.emulator.store.need(asset_id(call), RULES[kind_of(call)].what)
    return answer(call.emulator.store.update(asset_id(call), lambda found: found["properties"].update(kept)))


@route("GET", ARM, KIND)
def list_assets(call: Call) -> Response:
    call.emulator.store.need(call.args["wsid"], "Workspace")
    return answer_list(visible(call, call.emulator.store.children(f"{call.args['wsid']}/{kind_of(call)}")))
