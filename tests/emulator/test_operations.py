"""Long-running operations: the outcome of the work is what a poll reads, and nobody polls forever."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from emulator.errors import ArmError
from emulator.operations import Operations
from emulator.store import Store

BASE = "/subscriptions/s/providers/Microsoft.MachineLearningServices/locations/eastus2/mfeOperationsStatus"


@pytest.fixture
def store() -> Store:
    return Store(":memory:")


def outcome(store: Store, work: Any, seconds: float = 0) -> dict[str, Any]:
    operations = Operations(store, "eastus2", seconds)
    name = operations.begin(BASE, "test", work)
    operations.wait(name, 5)
    return store.need(f"{BASE}/{name}")


def fail(error: Exception) -> Any:
    def work() -> None:
        raise error

    return work


def test_success_and_both_kinds_of_failure(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    done = outcome(store, lambda: None)
    assert (done["status"], done["percentComplete"]) == ("Succeeded", 100)
    refused = outcome(store, fail(ArmError(400, "ResourceNotReady", "crashed")))
    assert (refused["status"], refused["error"]["code"]) == ("Failed", "ResourceNotReady")
    assert refused["error"]["message"] == "crashed"
    broken = outcome(store, fail(KeyError("x")))
    assert (broken["status"], broken["error"]["code"]) == ("Failed", "InternalServerError")
    assert caplog.records  # with its traceback in the log, not in the answer
    assert all(each["endTime"] >= each["startTime"] for each in (done, refused, broken))


def test_it_takes_its_time_and_a_poll_waits(store: Store) -> None:
    started, done = time.monotonic(), []
    operations = Operations(store, "eastus2", 0.3)
    name = operations.begin(BASE, "test", lambda: done.append(time.monotonic() - started))
    assert store.need(f"{BASE}/{name}")["status"] == "InProgress"
    operations.wait(name, 5)
    assert store.need(f"{BASE}/{name}")["status"] == "Succeeded"
    assert done[0] >= 0.3


def test_headers_lead_to_the_operation(store: Store) -> None:
    operations = Operations(store, "eastus2", 0)
    settings = SimpleNamespace(arm="https://management.azure.com")
    call: Any = SimpleNamespace(
        args={"sub": "s"}, query={"api-version": "2023-04-01"}, emulator=SimpleNamespace(settings=settings)
    )
    headers = operations.start(call, "test", lambda: None)
    name = headers["Azure-AsyncOperation"].rsplit("/", 1)[-1].split("?")[0]
    assert headers["Azure-AsyncOperation"] == f"https://management.azure.com{BASE}/{name}?api-version=2023-04-01"
    assert float(headers["x-ms-retry-after-ms"]) > 0  # 0 would mean "no header" to azure-core: 30 s
    operations.wait(name, 5)
    assert store.need(f"{BASE}/{name}")["status"] == "Succeeded"


def test_stopping_lets_go_and_a_restart_ends_what_was_running(store: Store) -> None:
    operations, ran = Operations(store, "eastus2", 60), threading.Event()
    name = operations.begin(BASE, "test", ran.set)
    operations.stop()
    operations.wait(name, 5)
    assert not ran.is_set()
    Operations(store, "eastus2", 0)
    found = store.need(f"{BASE}/{name}")
    assert (found["status"], found["error"]["code"]) == ("Failed", "OperationAborted")
