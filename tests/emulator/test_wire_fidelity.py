"""What went over the wire, held against Microsoft's own types for the api-version of each request.

Its name sorts last on purpose: it judges the log of every test of this folder that ran before it, and a small session
of its own.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("azure_types_of_tests", HERE / "azure_types.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


azure_types = load()
WSID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"


def entry(path: str, version: str, response: Any, method: str = "GET", request: Any = None) -> dict[str, Any]:
    return {
        "host": "management.azure.com",
        "method": method,
        "path": WSID + path,
        "query": {"api-version": version},
        "status": 200,
        "request": request,
        "response": response,
    }


CODE = {"id": "x", "name": "1", "type": "Microsoft.MachineLearningServices/workspaces/codes/versions"}


def code(**properties: Any) -> dict[str, Any]:
    return entry("/codes/c/versions/1", "2023-04-01", {**CODE, "properties": properties})


def test_the_validator_tells_right_from_wrong() -> None:
    right = {"codeUri": "https://x", "isAnonymous": True, "tags": {"a": "b"}}
    assert azure_types.deviations(code(**right)) == []
    for wrong in ({"isAnonymous": "yes"}, {"codeUri": 1}, {"tags": {"a": 1}}, {"codeURI": "x"}, {"tags": []}):
        assert len(azure_types.deviations(code(**{**right, **wrong}))) == 1, wrong
    lacking = entry("/codes/c/versions/1", "2023-04-01", CODE)
    assert azure_types.deviations(lacking) == ["answer: properties is missing"]
    sent = {"properties": {**right, "provisioningState": "Succeeded"}}
    put = entry("/codes/c/versions/1", "2023-04-01", {**CODE, "properties": right}, "PUT", sent)
    assert azure_types.deviations(put) == ["request.properties.provisioningState: is read-only"]
    listed = entry("/codes/c/versions", "2023-04-01", {"value": [{**CODE, "properties": {"codeUri": 1}}]})
    assert len(azure_types.deviations(listed)) == 1
    assert azure_types.deviations({**code(), "status": 404}) is None
    assert azure_types.deviations(entry("", "1999-01-01", {})) is None


def test_the_types_are_small() -> None:
    assert sum(path.stat().st_size for path in (HERE / "azure-types").iterdir()) < 300_000


@pytest.fixture(scope="module")
def log(ml_client: Any, emulator_home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The request log, after one pass over every kind of resource of this half of the emulator."""
    from azure.ai.ml.entities import AmlCompute, Data, Environment, Model

    file = tmp_path_factory.mktemp("wire") / "rows.jsonl"
    file.write_text("{}\n")
    size = "Standard_NC24ads_A100_v4"
    ml_client.compute.begin_create_or_update(AmlCompute(name="wire", size=size, max_instances=1)).result()
    list(ml_client.compute.list())
    ml_client.environments.create_or_update(Environment(name="wire", version="1", image="img"))
    ml_client.data.create_or_update(Data(name="wire", path=str(file), type="uri_file"))
    model = ml_client.models.create_or_update(Model(name="wire", path=str(file), type="custom_model"))
    ml_client.models.get("wire", model.version)
    list(ml_client.models.list(name="wire"))
    list(ml_client.datastores.list())
    return [json.loads(line) for line in (emulator_home / "requests.jsonl").read_text().splitlines()]


# The SDK sends this number where the type is a string, when a job or a deployment brings its code along.
SENT_BY_THE_SDK = "request.properties.properties.hash_version: 202208 is not StringType"


@pytest.mark.slow
def test_every_logged_exchange_has_the_official_types(log: list[dict[str, Any]]) -> None:
    checked, problems = Counter[str](), Counter[str]()
    for each in log:
        found = azure_types.deviations(each)
        if found is not None:
            checked[each["path"].split("/")[9] if each["path"].count("/") > 8 else "workspace"] += 1
            found = [problem for problem in found if problem != SENT_BY_THE_SDK]
            problems.update(f"{each['method']} {each['path'][-60:]}: {problem}" for problem in found)
    assert {"workspace", "computes", "environments", "data", "models", "datastores"} <= set(checked)
    assert not problems, "\n".join(f"{count} x {problem}" for problem, count in problems.most_common(40))


@pytest.mark.slow
def test_errors_have_azures_shape(log: list[dict[str, Any]]) -> None:
    errors = [each["response"] for each in log if each["status"] >= 400 and each["host"] == "management.azure.com"]
    bodies = [each for each in errors if each is not None]  # a HEAD has none
    assert bodies
    for each in bodies:
        assert {"code", "message", "details"} <= set(each["error"]), each
    assert not [each for each in log if each["status"] == 500]
