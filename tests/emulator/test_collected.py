"""What the real scoring code hands to the real package of Azure's data collector, found again in the blob store."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.context import Settings
from scripts.deploy import _collector
from scripts.settings import Collect

ROOT = Path(__file__).parents[2]
NAME = "collects"
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "I am jane@company.com, my card is 4111 1111 1111 1111, where is the parcel?"},
]
SCHEMA = json.dumps({"type": "object", "required": ["category"]})
PLACE = re.compile(
    rf"modelDataCollector/{NAME}/blue/(statistics|content|feedback)/\d{{4}}/\d\d/\d\d/\d\d/[0-9a-f]{{32}}\.jsonl"
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sys.path.insert(0, str(ROOT / "tests/serving"))
    try:
        from tiny_models import make_model, make_tokenizer
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("tiny")
    make_model("llama").save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def deployed(ml: Any, folder: Path) -> tuple[httpx.Client, str]:
    from azure.ai.ml.entities import (
        CodeConfiguration,
        Environment,
        ManagedOnlineDeployment,
        ManagedOnlineEndpoint,
        Model,
        OnlineRequestSettings,
    )

    ml.models.create_or_update(Model(name="tiny", version="3", path=str(folder), type="custom_model"))
    ml.environments.create_or_update(Environment(name="collects", version="1", image="mcr.microsoft.com/azureml/x"))
    ml.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=NAME, auth_mode="key")).result()
    deployment = ManagedOnlineDeployment(
        name="blue",
        endpoint_name=NAME,
        model="azureml:tiny:3",
        code_configuration=CodeConfiguration(code=str(ROOT / "serving"), scoring_script="score.py"),
        environment="azureml:collects:1",
        instance_type="Standard_NC24ads_A100_v4",
        instance_count=1,
        environment_variables={"COLLECT_CONTENT": "true", "ANSWER_SCHEMA": SCHEMA, "DEFAULT_MAX_TOKENS": "4"},
        request_settings=OnlineRequestSettings(request_timeout_ms=20000, max_concurrent_requests_per_instance=8),
        data_collector=_collector(Collect(content=True)),
    )
    ml.online_deployments.begin_create_or_update(deployment).result()
    endpoint = ml.online_endpoints.get(NAME)
    endpoint.traffic = {"blue": 100}
    ml.online_endpoints.begin_create_or_update(endpoint).result()
    key = ml.online_endpoints.get_keys(NAME).primary_key
    return httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60), endpoint.scoring_uri


def blobs(settings: Settings, names: set[str]) -> dict[str, list[dict[str, Any]]]:
    """The events by collection, once each of `names` has some."""
    from emulator.storage import Storage

    service, until = Storage(settings).service(), time.monotonic() + 20
    while True:
        found: dict[str, list[dict[str, Any]]] = {}
        for container in service.list_containers():
            client = service.get_container_client(container.name)
            for blob in client.list_blobs(name_starts_with=f"modelDataCollector/{NAME}"):
                place = PLACE.fullmatch(blob.name)
                assert place, blob.name
                lines = client.download_blob(blob.name).readall().splitlines()
                found.setdefault(place[1], []).extend(map(json.loads, lines))
        if names <= set(found):
            return found
        assert time.monotonic() < until, f"only {sorted(found)} came"
        time.sleep(0.2)


@pytest.mark.slow
def test_what_a_request_leaves_behind(ml_client: Any, emulator_settings: Settings, model_folder: Path) -> None:
    client, uri = deployed(ml_client, model_folder)
    answer = client.post(uri, json={"messages": MESSAGES, "max_tokens": 4})
    assert answer.status_code == 200, answer.text
    identity = answer.headers["x-answer-id"]
    client.post(uri, json={"messages": MESSAGES, "user": "release-train"})  # ours, and left out
    two = client.post(uri, json={"input_data": ["the hat", "the cat"]})
    noted = client.post(uri, json={"feedback": {"id": identity, "rating": "down"}})
    assert (noted.status_code, noted.json()) == (200, {"feedback": "noted"})
    assert client.post(uri, json={"feedback": {"id": "nobody's", "rating": "down"}}).status_code == 424

    events = blobs(emulator_settings, {"statistics", "content", "feedback"})
    assert {event["source"].rsplit("/", 1)[-1] for each in events.values() for event in each} == {"blue"}
    assert {event["collectdatatype"] for event in events["content"]} == {"pandas.core.frame.DataFrame"}
    rows = {name: [row for event in each for row in event["data"]] for name, each in events.items()}
    second = two.headers["x-answer-id"]
    assert [row["id"] for row in rows["statistics"]] == [identity, second, f"{second}-1"]
    assert {row["model"] for each in rows.values() for row in each} == {"tiny:3"}
    first = rows["statistics"][0]
    assert first["prompt_characters"] == len(MESSAGES[1]["content"])
    assert first["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert (first["language"], first["valid"], first["refused"]) == ("en", False, False)
    assert len(first["sketch"]) == 32
    assert first["finish_reason"] == answer.json()["choices"][0]["finish_reason"]
    assert "parcel" not in json.dumps(events["statistics"])
    assert rows["feedback"] == [{"id": identity, "rating": "down", "model": "tiny:3"}]
    said = rows["content"][0]["messages"][1]["content"]
    assert said == "I am [e-mail], my card is [number], where is the parcel?"

    # What Azure gives back of a deployment that collects can be written again, as a change of scale does.
    from scripts.endpoint import Endpoint

    endpoint = Endpoint.__new__(Endpoint)
    endpoint._ml, endpoint.name = ml_client, NAME
    endpoint.scale("blue", 2)
    assert ml_client.online_deployments.get("blue", NAME).instance_count == 2
    collections = ml_client.online_deployments.get("blue", NAME).data_collector.collections
    assert set(collections) == {"statistics", "content", "feedback"}
    assert collections["content"].data.endswith(f"/data/{NAME}-blue-content/versions/1")
