"""Blobs: where a URI's bytes are, and that a model is fetched once however often it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emulator.context import Settings
from emulator.errors import ArmError
from emulator.storage import MIB, Storage, container_of, locate
from emulator.store import Store

WSID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
WORKSPACE = {"id": WSID, "properties": {"workspaceId": "guid"}}
BLOB = "https://acct.blob.core.windows.net"


@pytest.fixture
def emulator(tmp_path: Path) -> Any:
    store = Store(":memory:")
    store.put(f"{WSID}/data/train/versions/1", {"properties": {"dataUri": "azureml://datastores/own/paths/d/"}})
    store.put(f"{WSID}/models/llm/versions/2", {"properties": {"modelUri": f"{BLOB}/models/llm%20x"}})
    store.put(f"{WSID}/codes/guid/versions/1", {"properties": {"codeUri": f"{BLOB}/code-1/src"}})
    store.put(f"{WSID}/datastores/own", {"properties": {"containerName": "own-container"}})
    return SimpleNamespace(store=store, settings=Settings(tmp_path, storage_account="acct"))


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("azureml://datastores/workspaceblobstore/paths/a/b/", ("azureml-blobstore-guid", "a/b")),
        ("azureml://datastores/WorkspaceArtifactStore/paths/a", ("azureml", "a")),
        (f"azureml:/{WSID}/datastores/own/paths/x/y.json", ("own-container", "x/y.json")),
        ("azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/own/paths/x", ("own-container", "x")),
        (f"{BLOB}/c/p/q?sv=1&sig=x", ("c", "p/q")),
        (f"{BLOB}:443/c/a%20b", ("c", "a b")),
        (f"{BLOB}/c", ("c", "")),
        (f"azureml:{WSID}/data/train/versions/1", ("own-container", "d")),
        ("azureml:train:1", ("own-container", "d")),
        (f"{WSID}/models/llm/versions/2", ("models", "llm x")),
        (f"{WSID}/codes/guid/versions/1", ("code-1", "src")),
    ],
)
def test_locate(emulator: Any, uri: str, place: tuple[str, str]) -> None:
    assert locate(emulator, WORKSPACE, uri) == place


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("azureml://datastores/nope/paths/a", 404),
        ("azureml:train:9", 404),
        (f"{WSID}/models/other/versions/1", 404),
        ("https://other.blob.core.windows.net/c/p", 400),
        ("https://example.com/x", 400),
        ("/etc/passwd", 400),
        ("", 400),
    ],
)
def test_what_cannot_be_located(emulator: Any, uri: str, status: int) -> None:
    with pytest.raises(ArmError) as raised:
        locate(emulator, WORKSPACE, uri)
    assert raised.value.status == status


def test_the_two_default_containers() -> None:
    assert container_of(WORKSPACE, "workspaceblobstore") == "azureml-blobstore-guid"
    with pytest.raises(ArmError):
        container_of(WORKSPACE, "other")


# Against the emulator's Azurite.


@pytest.fixture
def storage(emulator_settings: Settings) -> Iterator[Storage]:
    yield Storage(emulator_settings)


@pytest.mark.slow
def test_a_folder_comes_back_whole_and_its_neighbour_does_not(storage: Storage, tmp_path: Path) -> None:
    files = {"a.txt": b"a", "sub/b.bin": b"", "sub/with space.txt": b"c"}
    for name, content in files.items():
        path = tmp_path / "up" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert storage.upload("folders", "x/model", tmp_path / "up") == 3
    storage.put_bytes("folders", "x/model-2/other", b"no")
    assert storage.list("folders", "x/model/") == [f"x/model/{name}" for name in sorted(files)]
    assert storage.download("folders", "x/model", tmp_path / "down") == 3
    assert {name: (tmp_path / "down" / name).read_bytes() for name in files} == files
    assert storage.download("folders", "x/model/a.txt", tmp_path / "one") == 1
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["a.txt"]
    assert storage.download("folders", "nothing", tmp_path / "none") == 0
    assert storage.download("no-such-container", "x", tmp_path / "none") == 0


@pytest.mark.slow
def test_a_large_file_is_fetched_once_and_a_new_one_when_it_changes(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "weights").write_bytes(os.urandom(2 * MIB))
    (tmp_path / "up" / "config").write_bytes(b"{}")
    storage.upload("large", "m", tmp_path / "up")
    for folder in ("one", "two"):
        storage.download("large", "m", tmp_path / folder)
    assert (tmp_path / "one" / "weights").samefile(tmp_path / "two" / "weights")
    assert not (tmp_path / "one" / "config").samefile(tmp_path / "two" / "config")
    (tmp_path / "up" / "weights").write_bytes(os.urandom(2 * MIB))
    storage.upload("large", "m", tmp_path / "up")
    storage.download("large", "m", tmp_path / "three")
    assert (tmp_path / "three" / "weights").read_bytes() == (tmp_path / "up" / "weights").read_bytes()
    assert not (tmp_path / "three" / "weights").samefile(tmp_path / "one" / "weights")


@pytest.mark.slow
def test_sas_urls_open_what_they_name_and_nothing_else(
    storage: Storage, emulator_env: dict[str, str], emulator_settings: Settings
) -> None:
    from azure.core.exceptions import HttpResponseError
    from azure.storage.blob import BlobClient, ContainerClient

    assert emulator_env["HTTPS_PROXY"] == emulator_settings.proxy
    storage.put_bytes("sas", "dir/a b.txt", b"content")
    read_only = BlobClient.from_blob_url(storage.sas_url("sas", "dir/a b.txt"))
    assert read_only.download_blob().readall() == b"content"
    with pytest.raises(HttpResponseError):
        read_only.upload_blob(b"changed", overwrite=True)
    BlobClient.from_blob_url(storage.sas_url("sas", "dir/a b.txt", write=True)).upload_blob(b"changed", overwrite=True)
    container = ContainerClient.from_container_url(storage.container_sas("sas"))
    assert [blob.name for blob in container.list_blobs()] == ["dir/a b.txt"]
    with pytest.raises(HttpResponseError):
        BlobClient.from_blob_url(f"{emulator_settings.blob}/sas/dir/a%20b.txt").download_blob()


@pytest.mark.slow
def test_an_entra_token_leases_and_guards_a_state_blob(
    storage: Storage, emulator_settings: Settings, credential: Any
) -> None:
    from azure.core import MatchConditions
    from azure.core.exceptions import HttpResponseError, ResourceModifiedError
    from azure.storage.blob import BlobServiceClient

    storage.ensure_container("state")
    blob = BlobServiceClient(emulator_settings.blob, credential=credential).get_blob_client("state", "rollout.json")
    etag = blob.upload_blob(b"1", overwrite=True)["etag"]
    condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified, "overwrite": True}
    blob.upload_blob(b"2", **condition)
    with pytest.raises(ResourceModifiedError):
        blob.upload_blob(b"3", **condition)
    lease = blob.acquire_lease(15)
    with pytest.raises(HttpResponseError):
        blob.upload_blob(b"4", overwrite=True)
    blob.upload_blob(b"5", overwrite=True, lease=lease)
    lease.release()
    assert blob.download_blob().readall() == b"5"
