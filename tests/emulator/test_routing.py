"""Routes: who answers, with which arguments, and what is said when nobody does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator import app, routing
from emulator.errors import ArmError
from emulator.routing import ARM, ML, SCORING, WORKSPACE, Call, find, route

NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{2,20}", fullmatch=True)


@pytest.fixture(autouse=True)
def only_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "ROUTES", [])

    @route("GET|PUT", ARM, WORKSPACE + r"/computes/(?P<name>[^/]+)")
    def compute(call: Call) -> None: ...

    @route("GET", ML, r"/discovery", audience=None)
    def discovery(call: Call) -> None: ...

    @route("POST", SCORING, r"/score", audience="ml")
    def score(call: Call) -> None: ...


def test_names_and_id_reach_the_handler_whatever_the_case() -> None:
    path = "/subscriptions/S/resourcegroups/RG/providers/microsoft.machinelearningservices/Workspaces/W/computes/Gpu/"
    match = find("GET", "Management.Azure.com", path)
    assert match.handler.__name__ == "compute"
    assert match.args["name"] == "Gpu"
    assert match.args["wsid"] == path.removesuffix("/computes/Gpu/")
    assert match.audience == "arm"


@given(NAME, NAME)
def test_a_name_never_crosses_a_slash(workspace: str, compute: str) -> None:
    base = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces"
    args = find("PUT", "management.azure.com", f"{base}/{workspace}/computes/{compute}").args
    assert (args["ws"], args["name"]) == (workspace, compute)
    with pytest.raises(ArmError):
        find("PUT", "management.azure.com", f"{base}/{workspace}/extra/computes/{compute}")


@pytest.mark.parametrize(
    ("method", "host", "path", "status"),
    [
        ("DELETE", "eastus2.api.azureml.ms", "/discovery", 405),
        ("GET", "eastus2.api.azureml.ms", "/discovery/x", 404),
        ("GET", "management.azure.com.evil.example", "/discovery", 404),
        ("POST", "ep.eastus2.inference.ml.azure.com.evil.example", "/score", 404),
    ],
)
def test_what_nobody_serves(method: str, host: str, path: str, status: int) -> None:
    with pytest.raises(ArmError) as raised:
        find(method, host, path)
    assert raised.value.status == status


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"x"'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    call = Call("PUT", "h", "/", {}, {}, body, {}, {}, SimpleNamespace())  # type: ignore[arg-type]
    with pytest.raises(ArmError) as raised:
        call.json()
    assert (raised.value.status, raised.value.code) == (400, "InvalidRequestContent")


def test_every_handler_module_loads_and_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    loaded = app.load_handlers()
    assert {"login", "operations", "workspaces", "compute", "datastores", "assets"} <= set(loaded)
    served: Any = find("GET", "login.microsoftonline.com", "/t/v2.0/.well-known/openid-configuration")
    assert served.audience is None
