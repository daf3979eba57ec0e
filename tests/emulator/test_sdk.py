"""The unmodified SDK against the real emulator: groups, identities, workspaces, compute and versioned assets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from emulator.context import Settings
from emulator.processes import marked

pytestmark = pytest.mark.slow


def test_workspace_says_where_its_services_are(ml_client: Any) -> None:
    workspace = ml_client.workspaces.get("ws-mlops")
    assert workspace.location == "eastus2"
    assert workspace.discovery_url == "https://eastus2.api.azureml.ms/discovery"
    assert workspace.mlflow_tracking_uri.startswith("azureml://eastus2.api.azureml.ms/mlflow/v")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model folder with a subfolder."""
    path = tmp_path_factory.mktemp("assets") / "model"
    (path / "sub").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "sub" / "weights.bin").write_bytes(b"\x00" * 1000)
    return path


def environment(**change: Any) -> Any:
    from azure.ai.ml.entities import Environment

    conda = {"name": "x", "dependencies": ["python=3.11"]}
    return Environment(**{"name": "train-env", "version": "1", "image": "img:1", "conda_file": conda, **change})


def test_a_workspace_is_made_only_where_it_can_be(ml_client: Any, credential: Any) -> None:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Workspace

    nowhere = MLClient(credential, ml_client.subscription_id, "rg-none", "ws-x")
    with pytest.raises(HttpResponseError, match="ResourceGroupNotFound"):
        nowhere.workspaces.begin_create(Workspace(name="ws-x", location="eastus2")).result()
    with pytest.raises(HttpResponseError, match="LocationNotAvailable"):
        ml_client.workspaces.begin_create(Workspace(name="ws-x", location="westus")).result()
    with pytest.raises(ResourceNotFoundError, match="SubscriptionNotFound"):
        MLClient(credential, "00000000-0000-0000-0000-000000000000", "g", "w").workspaces.get("w")
    with pytest.raises(ResourceNotFoundError):
        ml_client.workspaces.get("ws-none")


def test_creating_a_workspace_again_updates_it_and_deleting_removes_it(ml_client: Any) -> None:
    from azure.ai.ml.entities import Workspace

    first = ml_client.workspaces.begin_create(Workspace(name="ws-second", location="eastus2")).result()
    again = Workspace(name="ws-second", location="eastus2", tags={"cost": "1"}, description="second")
    updated = ml_client.workspaces.begin_create(again).result()
    assert updated.id == first.id
    assert updated.tags["cost"] == "1"
    assert {"ws-mlops", "ws-second"} <= {each.name for each in ml_client.workspaces.list()}
    ml_client.workspaces.begin_delete("ws-second", delete_dependent_resources=False).result()
    assert "ws-second" not in {each.name for each in ml_client.workspaces.list()}


def test_a_resource_group_is_read_listed_and_deleted(ml_client: Any, credential: Any) -> None:
    from azure.mgmt.resource.resources import ResourceManagementClient

    groups = ResourceManagementClient(credential, ml_client.subscription_id).resource_groups
    assert not groups.check_existence("rg-brief")
    groups.create_or_update("rg-brief", {"location": "eastus2", "tags": {"a": "b"}})
    assert groups.get("RG-Brief").tags == {"a": "b"}
    assert "rg-brief" in {group.name for group in groups.list()}
    with pytest.raises(HttpResponseError, match="InvalidResourceGroupLocation"):
        groups.create_or_update("rg-brief", {"location": "westus"})
    groups.begin_delete("rg-brief").result()
    assert not groups.check_existence("rg-brief")
    with pytest.raises(HttpResponseError, match="still has workspaces"):
        groups.begin_delete(ml_client.resource_group_name).result()


def test_compute_is_made_read_and_checked(ml_client: Any) -> None:
    from azure.ai.ml.entities import AmlCompute

    size = "Standard_NC24ads_A100_v4"
    made = ml_client.compute.begin_create_or_update(AmlCompute(name="a100", size=size, max_instances=1)).result()
    assert made.provisioning_state == "Succeeded"
    found = ml_client.compute.get("A100")
    assert (found.size, found.min_instances, found.max_instances) == (size, 0, 1)
    assert "a100" in {each.name for each in ml_client.compute.list()}
    wider = ml_client.compute.begin_create_or_update(AmlCompute(name="a100", size=size, max_instances=2)).result()
    assert wider.max_instances == 2
    for bad in (
        AmlCompute(name="a100", size="Standard_NC6s_v3", max_instances=1),
        AmlCompute(name="x", size=size, max_instances=1),
        AmlCompute(name="node-7", size=size, max_instances=1),
        AmlCompute(name="good-name", size="A100", max_instances=1),
        AmlCompute(name="good-name", size=size, min_instances=2, max_instances=1),
    ):
        with pytest.raises(HttpResponseError) as raised:
            ml_client.compute.begin_create_or_update(bad).result()
        assert raised.value.status_code == 400
    ml_client.compute.begin_delete("a100").result()
    with pytest.raises(ResourceNotFoundError):
        ml_client.compute.get("a100")


def test_an_environment_version_never_changes(ml_client: Any) -> None:
    made = ml_client.environments.create_or_update(environment())
    assert made.id.endswith("/environments/train-env/versions/1")
    assert ml_client.environments.create_or_update(environment(tags={"a": "b"})).tags == {"a": "b"}
    with pytest.raises(ResourceExistsError):
        ml_client.environments.create_or_update(environment(image="img:2"))
    assert ml_client.environments.get("train-env", "1").image == "img:1"
    ml_client.environments.create_or_update(environment(version="2", image="img:2"))
    assert ml_client.environments.get("train-env", label="latest").version == "2"


def test_a_data_version_is_uploaded_once_and_never_changes(ml_client: Any, folder: Path, tmp_path: Path) -> None:
    from azure.ai.ml.entities import Data

    made = ml_client.data.create_or_update(Data(name="tickets", version="1", path=str(folder), type="uri_folder"))
    assert made.path.startswith("azureml://subscriptions/")
    assert made.path.endswith("/model/")
    (tmp_path / "other.jsonl").write_text("{}\n")
    with pytest.raises(ResourceExistsError, match="already exists"):
        ml_client.data.create_or_update(
            Data(name="tickets", version="1", path=str(tmp_path / "other.jsonl"), type="uri_file")
        )
    by_itself = ml_client.data.create_or_update(
        Data(name="tickets", path=str(tmp_path / "other.jsonl"), type="uri_file")
    )
    assert by_itself.version == "2"
    with pytest.raises(HttpResponseError, match="Could not find datastore"):
        ml_client.data.create_or_update(
            Data(name="tickets", version="9", path="azureml://datastores/none/paths/x", type="uri_file")
        )


def test_models_count_up_download_whole_and_archive(ml_client: Any, folder: Path, tmp_path: Path) -> None:
    from azure.ai.ml.entities import Model

    def model(**more: Any) -> Any:
        return Model(name="phi", path=str(folder), type="custom_model", **more)

    first, second = (ml_client.models.create_or_update(model(tags={"run": run})) for run in "ab")
    assert (first.version, second.version) == ("1", "2")
    assert ml_client.models.get("phi", label="latest").version == "2"
    assert [each.version for each in ml_client.models.list(name="phi")] == ["2", "1"]
    ml_client.models.download("phi", "1", download_path=str(tmp_path))
    copied = {path.relative_to(tmp_path / "phi" / "model") for path in (tmp_path / "phi" / "model").rglob("*.*")}
    assert copied == {Path("config.json"), Path("sub/weights.bin")}
    (folder / "config.json").write_text('{"changed": true}')
    with pytest.raises(HttpResponseError, match="Asset paths cannot be updated"):
        ml_client.models.create_or_update(model(version="1"))
    ml_client.models.archive("phi", "1")
    assert [each.version for each in ml_client.models.list(name="phi")] == ["2"]
    for missing in (("phi", "9"), ("psi", "1")):
        with pytest.raises(ResourceNotFoundError):
            ml_client.models.get(*missing)


def test_state_needs_a_login_for_the_right_audience(ml_client: Any, credential: Any) -> None:
    import requests

    url = f"https://management.azure.com{ml_client.workspaces.get('ws-mlops').id}"
    version = {"api-version": "2024-10-01-preview"}
    for_ml = credential.get_token("https://ml.azure.com/.default").token
    for_arm = credential.get_token("https://management.azure.com/.default").token
    assert requests.get(url, params=version, timeout=10).status_code == 401
    assert (
        requests.get(url, params=version, headers={"Authorization": f"Bearer {for_ml}"}, timeout=10).status_code == 401
    )
    allowed = {"Authorization": f"Bearer {for_arm}"}
    assert requests.get(url, params=version, headers=allowed, timeout=10).status_code == 200
    assert requests.get(url, headers=allowed, timeout=10).json()["error"]["code"] == "MissingApiVersionParameter"


def test_the_default_datastores(ml_client: Any) -> None:
    assert ml_client.datastores.get_default().name == "workspaceblobstore"
    assert {each.name for each in ml_client.datastores.list()} == {"workspaceblobstore", "workspaceartifactstore"}
    with pytest.raises(HttpResponseError, match="Could not find datastore"):
        ml_client.datastores.get("none")


def test_nothing_of_an_sdk_session_left_or_tried_to(
    ml_client: Any, folder: Path, emulator_home: Path, emulator_settings: Settings
) -> None:
    from azure.ai.ml.entities import Model

    ml_client.models.create_or_update(Model(name="stays", path=str(folder), type="custom_model"))
    assert (emulator_home / "refused.jsonl").read_text() == ""
    pids = [os.getpid(), int((emulator_home / "pid").read_text()), *marked(emulator_settings.session)]
    connections = [each for pid in pids for each in psutil.Process(pid).net_connections() if each.raddr]
    assert connections
    assert {each.raddr.ip.removeprefix("::ffff:") for each in connections} <= {"127.0.0.1", "::1"}
