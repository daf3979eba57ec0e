"""Online endpoints and deployments through the unmodified SDK: rules, life, crash, update without outage, restart."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.endpoint_rules import PROBE, auth_mode, check_traffic, deployment_properties, weights
from emulator.errors import ArmError

slow = pytest.mark.slow
SCORE = """
import glob, json, os
def init():
    global model
    root = os.environ["AZUREML_MODEL_DIR"]
    print("model files", sorted(os.path.relpath(p, root) for p in glob.glob(root + "/**/*.json", recursive=True)))
    if os.environ.get("CRASH"):
        raise RuntimeError("the model does not load")
    model = json.load(open(glob.glob(root + "/**/model.json", recursive=True)[0]))
def run(raw):
    return {"answer": model["answer"], "colour": os.environ.get("COLOUR"), "pid": os.getpid()}
"""
COLOURS = st.sampled_from(["blue", "green", "Blue", "grey"])


@given(st.dictionaries(COLOURS, st.integers(-5, 105), max_size=3))
def test_weights_are_lower_case_and_never_zero_or_of_a_stranger(wanted: dict[str, int]) -> None:
    known = {"blue", "green"}
    good = all(name.lower() in known and 0 <= weight <= 100 for name, weight in wanted.items())
    if good:
        kept = weights(wanted, known, "traffic")
        assert all(name == name.lower() and weight for name, weight in kept.items())
        assert set(kept) <= known
    else:
        with pytest.raises(ArmError) as refused:
            weights(wanted, known, "traffic")
        assert refused.value.status == 400


@pytest.mark.parametrize("wrong", [True, 50.0, "50", None])
def test_a_weight_is_a_whole_number(wrong: object) -> None:
    with pytest.raises(ArmError):
        weights({"blue": wrong}, {"blue"}, "traffic")


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 100)), st.integers(1, 100))
def test_traffic_sums_to_nothing_or_everything_and_mirror_is_small_and_apart(
    traffic: dict[str, int], percent: int
) -> None:
    for mirror in ({}, {"c": percent}, {"c": 1, "d": 1}):
        good = sum(traffic.values()) in (0, 100) and len(mirror) < 2
        good = good and not (mirror and (percent > 50 or "c" in traffic))
        if good:
            check_traffic(traffic, mirror)
        else:
            with pytest.raises(ArmError):
                check_traffic(traffic, mirror)


def test_defaults_stand_in_for_what_is_not_sent() -> None:
    sent = {"codeConfiguration": {"codeId": "c", "scoringScript": "s"}, "environmentId": "e", "instanceType": "t"}
    filled = deployment_properties({**sent, "scaleSettings": None, "livenessProbe": {"period": "PT3S"}})
    assert filled["scaleSettings"] == {"scaleType": "Default"}
    assert filled["livenessProbe"] == {**PROBE, "period": "PT3S"}
    assert filled["requestSettings"]["requestTimeout"] == "PT5S"
    for timeout in ("PT181S", "PT0S", "soon"):
        with pytest.raises(ArmError):
            deployment_properties({**sent, "requestSettings": {"requestTimeout": timeout}})
    assert [auth_mode(mode) for mode in (None, "key", "aad_token", "AMLToken")] == [
        "Key",
        "Key",
        "AADToken",
        "AMLToken",
    ]


@pytest.fixture(scope="module")
def ml(ml_client: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The client, with an environment and a folder model `answer:1` there."""
    from azure.ai.ml.entities import Environment, Model

    folder = tmp_path_factory.mktemp("model") / "weights"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"answer": 42}))
    ml_client.environments.create_or_update(Environment(name="serve", version="1", image="mcr.microsoft.com/any"))
    ml_client.models.create_or_update(Model(name="answer", version="1", path=str(folder), type="custom_model"))
    return ml_client


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("score")
    (folder / "score.py").write_text(SCORE)
    return str(folder)


Deploy = Callable[..., Any]


@pytest.fixture(scope="module")
def deploy(ml: Any, code: str) -> Deploy:
    from azure.ai.ml.entities import CodeConfiguration, ManagedOnlineDeployment, OnlineRequestSettings

    def create(endpoint: str, name: str, *, capacity: int = 1, **variables: str) -> Any:
        deployment = ManagedOnlineDeployment(
            name=name,
            endpoint_name=endpoint,
            model="azureml:answer:1",
            code_configuration=CodeConfiguration(code=code, scoring_script="score.py"),
            environment="azureml:serve:1",
            instance_type="Standard_NC24ads_A100_v4",
            instance_count=capacity,
            environment_variables=variables,
            request_settings=OnlineRequestSettings(request_timeout_ms=20000, max_concurrent_requests_per_instance=8),
        )
        return ml.online_deployments.begin_create_or_update(deployment).result()

    return create


def new_endpoint(ml: Any, name: str, **options: Any) -> Any:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    return ml.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, **options)).result()


def set_traffic(ml: Any, name: str, traffic: dict[str, int], mirror: dict[str, int] | None = None) -> Any:
    endpoint = ml.online_endpoints.get(name)
    endpoint.traffic, endpoint.mirror_traffic = traffic, mirror or {}
    return ml.online_endpoints.begin_create_or_update(endpoint).result()


def caller(ml: Any, name: str) -> tuple[httpx.Client, str]:
    key = ml.online_endpoints.get_keys(name).primary_key
    client = httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60)
    return client, ml.online_endpoints.get(name).scoring_uri


@slow
def test_the_life_of_an_endpoint(ml: Any, deploy: Deploy) -> None:
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    made = new_endpoint(ml, "life", auth_mode="key", tags={"a": "b"})
    assert made.provisioning_state == "Succeeded"
    assert made.scoring_uri == "https://life.eastus2.inference.ml.azure.com/score"
    assert made.identity.type == "system_assigned"
    principal = made.identity.principal_id
    blue = deploy("life", "blue", COLOUR="blue")
    assert blue.provisioning_state == "Succeeded"
    assert blue.request_settings.max_concurrent_requests_per_instance == 8
    live = set_traffic(ml, "life", {"Blue": 100})
    assert live.traffic == {"blue": 100}
    assert live.identity.principal_id == principal
    client, uri = caller(ml, "life")
    answer = client.post(uri, json={})
    assert answer.json()["answer"] == 42
    assert answer.headers["azureml-model-deployment"] == "blue"
    # AZUREML_MODEL_DIR keeps the last part of a folder model's path.
    assert "model files ['weights/model.json']" in ml.online_deployments.get_logs("blue", "life", lines=100)
    with pytest.raises(HttpResponseError, match="100% of traffic") as refused:
        ml.online_deployments.begin_delete("blue", "life").result()
    assert refused.value.status_code == 400
    old_key = ml.online_endpoints.get_keys("life").primary_key
    ml.online_endpoints.begin_regenerate_keys("life", key_type="primary").result()
    assert ml.online_endpoints.get_keys("life").primary_key != old_key
    assert client.post(uri, json={}).status_code == 401
    ml.online_endpoints.begin_delete("life").result()
    with pytest.raises(ResourceNotFoundError):
        ml.online_endpoints.get("life")
    assert client.post(uri, json={}).status_code == 404


@slow
def test_traffic_that_the_service_refuses(ml: Any, deploy: Deploy) -> None:
    from azure.core.exceptions import HttpResponseError

    new_endpoint(ml, "rules", auth_mode="key")
    deploy("rules", "blue")
    deploy("rules", "green")
    assert set_traffic(ml, "rules", {"blue": 100, "green": 0}, {"green": 50}).traffic == {"blue": 100}
    refused: list[tuple[dict[str, int], dict[str, int], str]] = [
        ({"blue": 90}, {}, "sum to 90"),
        ({"blue": 90, "grey": 10}, {}, "grey"),
        ({"blue": 100}, {"green": 51}, "at most 50"),
        ({"blue": 50, "green": 50}, {"green": 10}, "live and mirror"),
    ]
    for traffic, mirror, why in refused:
        with pytest.raises(HttpResponseError, match=why) as caught:
            set_traffic(ml, "rules", traffic, mirror)
        assert caught.value.status_code == 400
    unchanged = ml.online_endpoints.get("rules")
    assert (unchanged.traffic, unchanged.mirror_traffic) == ({"blue": 100}, {"green": 50})
    with pytest.raises(HttpResponseError, match="50% of mirrorTraffic"):
        ml.online_deployments.begin_delete("green", "rules").result()
    set_traffic(ml, "rules", {"blue": 100})
    ml.online_deployments.begin_delete("green", "rules").result()
    assert [each.name for each in ml.online_deployments.list("rules")] == ["blue"]
    ml.online_endpoints.begin_delete("rules").result()


@slow
def test_a_crashing_container_is_not_ready_and_its_log_says_why(ml: Any, deploy: Deploy) -> None:
    from azure.core.exceptions import HttpResponseError

    new_endpoint(ml, "crash", auth_mode="key")
    with pytest.raises(HttpResponseError, match="User container has crashed or terminated") as failed:
        deploy("crash", "blue", CRASH="1")
    assert failed.value.error.code == "ResourceNotReady"
    assert ml.online_deployments.get("blue", "crash").provisioning_state == "Failed"
    assert "the model does not load" in ml.online_deployments.get_logs("blue", "crash", lines=200)
    downloads = ml.online_deployments.get_logs("blue", "crash", lines=9, container_type="storage-initializer")
    assert "Downloaded 1 files of model" in downloads
    assert deploy("crash", "blue").provisioning_state == "Succeeded"
    ml.online_endpoints.begin_delete("crash").result()


@slow
def test_an_update_has_no_outage_and_a_failed_one_changes_nothing(ml: Any, deploy: Deploy) -> None:
    from azure.core.exceptions import HttpResponseError

    new_endpoint(ml, "update", auth_mode="key")
    deploy("update", "blue", COLOUR="first")
    set_traffic(ml, "update", {"blue": 100})
    client, uri = caller(ml, "update")
    first = client.post(uri, json={}).json()
    with pytest.raises(HttpResponseError):
        deploy("update", "blue", COLOUR="broken", CRASH="1")
    assert client.post(uri, json={}).json() == first
    statuses, colours, done = [], [], threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            answer = client.post(uri, json={})
            statuses.append(answer.status_code)
            colours.append(answer.json()["colour"])

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        deploy("update", "blue", COLOUR="second")
        time.sleep(0.5)
    finally:
        done.set()
        asking.join()
    assert set(statuses) == {200}
    assert (colours[0], colours[-1]) == ("first", "second")
    before = client.post(uri, json={}).json()["pid"]
    scaled = deploy("update", "blue", COLOUR="second", capacity=3)
    assert scaled.instance_count == 3
    assert client.post(uri, json={}).json()["pid"] == before, "scaling must not restart the server"
    ml.online_endpoints.begin_delete("update").result()


@slow
def test_user_assigned_identities_come_back_with_their_ids(
    ml: Any, credential: Any, emulator_env: dict[str, str]
) -> None:
    from azure.ai.ml.entities import IdentityConfiguration, ManagedIdentityConfiguration
    from azure.mgmt.msi import ManagedServiceIdentityClient

    identities = ManagedServiceIdentityClient(credential, emulator_env["AZURE_SUBSCRIPTION_ID"])
    user = identities.user_assigned_identities.create_or_update(
        ml.resource_group_name, "id-endpoint", {"location": "eastus2"}
    )
    given_identity = IdentityConfiguration(
        type="user_assigned", user_assigned_identities=[ManagedIdentityConfiguration(resource_id=user.id)]
    )
    made = new_endpoint(ml, "identity", auth_mode="aad_token", identity=given_identity)
    [found] = made.identity.user_assigned_identities
    # azure-ai-ml 1.35.2 leaves these two under their names on the wire, and client_id and principal_id empty.
    assert (vars(found)["clientId"], vars(found)["principalId"]) == (user.client_id, user.principal_id)
    assert found.resource_id == user.id
    again = set_traffic(ml, "identity", {})
    assert vars(again.identity.user_assigned_identities[0])["clientId"] == user.client_id
    ml.online_endpoints.begin_delete("identity").result()
