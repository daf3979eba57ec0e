"""vCPU quotas of the local Azure ML: what a deployment and a job are refused with, and the rule that scripts follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ArmError
from emulator.quota import LIMITS, SIZES, VARIABLE, OutOfQuota, check_job, limits, size_of, used, vcpus
from emulator.store import Store
from scripts.quota import serving_vcpus

ENDPOINT = (
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/onlineEndpoints/e"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state.db")


def deployment(store: Store, name: str, kind: str, instances: int = 1) -> str:
    target = f"{ENDPOINT}/deployments/{name}"
    store.put(target, {"id": target, "properties": {"instanceType": kind}, "sku": {"capacity": instances}})
    return target


def test_every_size_has_a_family_with_a_limit() -> None:
    assert {size.family for size in SIZES.values()} <= set(LIMITS)


@given(st.sampled_from(sorted(SIZES)), st.integers(1, 40))
def test_scripts_count_as_the_service_does(name: str, instances: int) -> None:
    size = size_of(name.lower())
    assert size is not None
    assert vcpus(name, instances) == serving_vcpus(name, size.vcpus, instances)
    assert vcpus(name, instances) >= size.vcpus * instances


def test_as_azure_counted_in_a_refusal_on_record() -> None:
    assert vcpus("Standard_DS3_v2", 1) == 8
    assert vcpus("Standard_F4s_v2", 1) == 8
    assert vcpus("Standard_NC24ads_A100_v4", 1) == 24


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, " standardesv3family=4, standardNCADSA100v4Family=0,")
    assert limits() == {**LIMITS, "standardESv3Family": 4, "standardNCADSA100v4Family": 0}
    monkeypatch.delenv(VARIABLE)
    assert limits() == LIMITS


@pytest.mark.parametrize("text", ["standardESv3Family", "nothing=4", "standardESv3Family=-1", "standardESv3Family=x"])
def test_a_limit_that_cannot_be_read_is_not_ignored(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ArmError, match=VARIABLE):
        limits()


def test_what_deployments_hold_is_counted_by_family_without_the_one_that_is_updated(store: Store) -> None:
    blue = deployment(store, "blue", "Standard_E4s_v3")
    deployment(store, "green", "STANDARD_E8S_V3", 2)
    deployment(store, "other", "Standard_DS3_v2")
    deployment(store, "unknown", "Standard_X1")
    assert used(store, "standardESv3Family") == 8 + 24
    assert used(store, "standardESv3Family", but=blue.upper()) == 24


def test_the_refusal_has_the_shape_of_the_service() -> None:
    error: Any = OutOfQuota(400, "BadRequest", "Not enough quota available for X.").body()["error"]
    assert error["code"] == "BadRequest"
    [detail] = error["details"]
    assert detail["code"] == "InferencingClientCreateDeploymentFailed"
    inner = json.loads(detail["message"].split("error detail: ", 1)[1])
    assert inner["errors"] == {"VmSize": ["Not enough quota available for X."]}


@pytest.mark.parametrize(("limit", "nodes", "refused"), [(0, 1, True), (24, 1, False), (24, 2, True), (23, 1, True)])
def test_a_job_is_refused_when_its_cluster_can_never_have_its_nodes(
    store: Store, monkeypatch: pytest.MonkeyPatch, limit: int, nodes: int, refused: bool
) -> None:
    monkeypatch.setenv(VARIABLE, f"standardNCADSA100v4Family={limit}")
    store.put("/c/gpu", {"id": "/c/gpu", "properties": {"properties": {"vmSize": "Standard_NC24ads_A100_v4"}}})
    job = {"computeId": "/c/gpu", "resources": {"instanceCount": nodes}}
    if refused:
        with pytest.raises(ArmError, match="JobNodeCountExceedsCoreQuota"):
            check_job(store, job)
    else:
        check_job(store, job)
