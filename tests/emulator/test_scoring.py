"""Scoring through the endpoint's own host name: split, header, mirror, statuses, logins, limits, many at once."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.context import Settings
from emulator.gate import Busy, Gate
from emulator.identity import Tokens

slow = pytest.mark.slow
HEADER = "azureml-model-deployment"
SCORE = """
import json, os, time
import flask
from azureml_inference_server_http.api.aml_response import AMLResponse
def init():
    pass
def run(raw):
    asked = json.loads(raw)
    if "events" in asked:
        return flask.Response(events(asked["events"], asked["mark"]), mimetype="text/event-stream")
    time.sleep(asked.get("sleep", 0))
    if asked.get("raise"):
        raise ValueError("no")
    if "status" in asked:
        return AMLResponse({"said": "so"}, asked["status"], json_str=True)
    return {"colour": os.environ["COLOUR"], "threads": os.environ["GUNICORN_CMD_ARGS"]}
def events(count, mark):
    said = 0
    try:
        for said in range(count):
            yield b"data: %d\\n\\n" % said
            time.sleep(0.1)
    finally:
        open(mark, "w").write(str(said))
"""


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 20))
def test_the_gate_lets_in_its_limit_queues_as_many_and_turns_the_rest_away(limit: int, requests: int) -> None:
    async def play() -> tuple[int, Counter[str]]:
        gate, most, fates = Gate(), 0, Counter[str]()

        async def one() -> None:
            nonlocal most
            try:
                await gate.enter(limit, 5)
            except Busy:
                fates["turned away"] += 1
                return
            most = max(most, gate.active)
            await asyncio.sleep(0)
            gate.leave()
            fates["served"] += 1

        await asyncio.gather(*(one() for _ in range(requests)))
        assert (gate.active, len(gate.waiting)) == (0, 0)
        return most, fates

    most, fates = asyncio.run(play())
    assert most == min(limit, requests)
    assert fates["served"] == min(requests, 2 * limit)
    assert fates["turned away"] == max(0, requests - 2 * limit)


def test_who_gives_up_waiting_leaves_no_trace_in_the_gate() -> None:
    async def play() -> None:
        gate = Gate()
        await gate.enter(1, 1)
        with pytest.raises(TimeoutError):
            await gate.enter(1, 0.01)
        assert (gate.active, len(gate.waiting)) == (1, 0)
        gate.leave()
        await gate.enter(1, 0.01)

    asyncio.run(play())


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("score")
    (folder / "score.py").write_text(SCORE)
    return str(folder)


Deploy = Callable[..., Any]


@pytest.fixture(scope="module")
def deploy(ml_client: Any, code: str) -> Deploy:
    """Deploy a colour without a model; keyword arguments are request settings."""
    from azure.ai.ml.entities import (
        CodeConfiguration,
        Environment,
        ManagedOnlineDeployment,
        ManagedOnlineEndpoint,
        OnlineRequestSettings,
    )

    ml_client.environments.create_or_update(Environment(name="scoring", version="1", image="mcr.microsoft.com/any"))
    endpoints: set[str] = set()

    def create(endpoint: str, *names: str, auth_mode: str = "key", **limits: int) -> None:
        if endpoint not in endpoints:
            made = ManagedOnlineEndpoint(name=endpoint, auth_mode=auth_mode)
            ml_client.online_endpoints.begin_create_or_update(made).result()
            endpoints.add(endpoint)
        wanted = {"request_timeout_ms": 30_000, "max_concurrent_requests_per_instance": 16, **limits}
        for name in names:
            deployment = ManagedOnlineDeployment(
                name=name,
                endpoint_name=endpoint,
                code_configuration=CodeConfiguration(code=code, scoring_script="score.py"),
                environment="azureml:scoring:1",
                instance_type="Standard_NC24ads_A100_v4",
                instance_count=1,
                environment_variables={"COLOUR": name, "GUNICORN_CMD_ARGS": "--threads 16"},
                request_settings=OnlineRequestSettings(**wanted),
            )
            ml_client.online_deployments.begin_create_or_update(deployment).result()

    return create


def traffic(ml: Any, name: str, live: dict[str, int], mirror: dict[str, int] | None = None) -> None:
    endpoint = ml.online_endpoints.get(name)
    endpoint.traffic, endpoint.mirror_traffic = live, mirror or {}
    ml.online_endpoints.begin_create_or_update(endpoint).result()


@pytest.fixture(scope="module")
def pair(deploy: Deploy) -> str:
    """An endpoint with a blue and a green deployment."""
    deploy("pair", "blue", "green")
    return "pair"


@pytest.fixture
def client(ml_client: Any, pair: str) -> Iterator[httpx.Client]:
    key = ml_client.online_endpoints.get_keys(pair).primary_key
    base = "https://pair.eastus2.inference.ml.azure.com"
    with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=60) as one:
        yield one


def rows(home: Path, endpoint: str) -> list[tuple[Any, ...]]:
    """(deployment, status, model_status, mirrored) of an endpoint's requests so far."""
    time.sleep(0.3)  # the log is written by a thread of its own
    query = "SELECT deployment, status, model_status, mirrored FROM requests WHERE endpoint LIKE ? ORDER BY at"
    with sqlite3.connect(home / "traffic.db") as database:
        return list(database.execute(query, (f"%/onlineendpoints/{endpoint}",)))


def colours(client: httpx.Client, count: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(count):
        answer = client.post("/score", json={}).raise_for_status()
        assert answer.json()["colour"] == answer.headers[HEADER]
        found[answer.headers[HEADER]] += 1
    return found


@slow
def test_requests_are_split_by_weight(ml_client: Any, client: httpx.Client, pair: str) -> None:
    traffic(ml_client, pair, {"blue": 100})
    assert colours(client, 30) == {"blue": 30}
    for share in (30, 50):
        traffic(ml_client, pair, {"blue": 100 - share, "green": share})
        count = 200
        got, spread = colours(client, count)["green"], math.sqrt(count * share * (100 - share)) / 100
        assert abs(got - count * share / 100) < 5 * spread  # once in a million by chance


@slow
def test_the_header_chooses_the_deployment_also_without_traffic(
    ml_client: Any, client: httpx.Client, pair: str
) -> None:
    traffic(ml_client, pair, {"blue": 100})
    for name in ("green", "GREEN"):
        answers = [client.post("/score", json={}, headers={HEADER: name}) for _ in range(5)]
        assert {answer.json()["colour"] for answer in answers} == {"green"}
    unknown = client.post("/score", json={}, headers={HEADER: "grey"})
    assert unknown.status_code == 404
    traffic(ml_client, pair, {})
    assert client.post("/score", json={}).status_code == 404
    assert client.post("/score", json={}, headers={HEADER: "green"}).status_code == 200


@slow
def test_mirrored_requests_are_copies_that_nobody_waits_for(
    ml_client: Any, client: httpx.Client, pair: str, emulator_home: Path
) -> None:
    traffic(ml_client, pair, {"blue": 100}, {"green": 50})
    seen, count = len(rows(emulator_home, pair)), 100
    assert colours(client, count) == {"blue": count}
    new = Counter(rows(emulator_home, pair)[seen:])
    assert new[("blue", 200, 200, 0)] == count
    assert 25 <= new[("green", 0, 200, 1)] <= 75  # 50 expected, standard deviation 5
    before = rows(emulator_home, pair)
    for _ in range(20):
        client.post("/score", json={}, headers={HEADER: "blue"})
    later = rows(emulator_home, pair)[len(before) :]
    assert Counter(later) == {("blue", 200, 200, 0): 20}, "a request with the header is never mirrored"


@slow
def test_anything_but_200_from_the_container_is_424(
    ml_client: Any, client: httpx.Client, pair: str, emulator_home: Path
) -> None:
    traffic(ml_client, pair, {"blue": 100})
    for body, status in (({"raise": 1}, 500), ({"status": 418}, 418), ({"status": 404}, 404), ({"status": 201}, 201)):
        answer = client.post("/score", json=body)
        assert (answer.status_code, answer.headers[HEADER]) == (424, "blue")
        assert answer.headers["ms-azureml-model-error-statuscode"] == str(status)
        assert answer.headers["ms-azureml-model-error-reason"]
    assert rows(emulator_home, pair)[-1] == ("blue", 424, 201, 0)
    fine = client.post("/score", json={}, headers={"x-ms-client-request-id": "mine"})
    assert fine.status_code == 200
    assert fine.headers["x-ms-client-request-id"] == "mine"
    assert fine.headers["x-ms-request-id"]


@slow
def test_limits_of_a_deployment(ml_client: Any, deploy: Deploy, pair: str, client: httpx.Client) -> None:
    limits = {"request_timeout_ms": 1500, "max_concurrent_requests_per_instance": 1}
    deploy(pair, "slow", **limits)
    to_slow = {HEADER: "slow"}
    late = client.post("/score", json={"sleep": 2.5}, headers=to_slow)
    assert (late.status_code, late.headers[HEADER]) == (408, "slow")

    def ask(_: int) -> int:
        return client.post("/score", json={"sleep": 0.4}, headers=to_slow).status_code

    with ThreadPoolExecutor(6) as pool:
        crowd = Counter(pool.map(ask, range(6)))
    assert crowd == {200: 2, 429: 4}, "one is worked on, one waits, the rest is turned away"
    deploy(pair, "slow", **limits, max_queue_wait_ms=100)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(ask, range(2))) == [200, 429]
    # Scaled to three instances there is room for six.
    grown = ml_client.online_deployments.get("slow", pair)
    grown.instance_count, grown.request_settings.max_queue_wait_ms = 3, None
    ml_client.online_deployments.begin_create_or_update(grown).result()
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, range(3))) == [200] * 3


@slow
def test_keys_are_checked(ml_client: Any, client: httpx.Client, pair: str) -> None:
    traffic(ml_client, pair, {"blue": 100})
    url = str(client.base_url.join("/score"))
    wrong = {"none": {}, "wrong": {"Authorization": "Bearer no"}, "basic": {"Authorization": "Basic eDp5"}}
    assert {name: httpx.post(url, json={}, headers=headers).status_code for name, headers in wrong.items()} == {
        "none": 401,
        "wrong": 401,
        "basic": 401,
    }
    secondary = ml_client.online_endpoints.get_keys(pair).secondary_key
    assert httpx.post(url, json={}, headers={"Authorization": f"Bearer {secondary}"}).status_code == 200
    nobody = httpx.post(url.replace("pair", "nobody"), json={}, headers=dict(client.headers))
    assert nobody.status_code == 404


@slow
def test_entra_tokens_are_checked(ml_client: Any, credential: Any, deploy: Deploy, emulator_settings: Settings) -> None:
    from azure.core.exceptions import HttpResponseError

    deploy("entra", "blue", auth_mode="aad_token")
    traffic(ml_client, "entra", {"blue": 100})
    uri = ml_client.online_endpoints.get("entra").scoring_uri
    tokens = Tokens(emulator_settings.home, emulator_settings.tenant_id)

    def status(token: str) -> int:
        return httpx.post(uri, json={}, headers={"Authorization": f"Bearer {token}"}).status_code

    assert status(credential.get_token("https://ml.azure.com/.default").token) == 200
    assert status(credential.get_token("https://management.azure.com/.default").token) == 401
    assert status(tokens.mint("https://ml.azure.com", "me", seconds=-10)) == 401
    assert status(tokens.mint("https://ml.azure.com", "me")[:-8] + "AAAAAAAA") == 401
    assert httpx.post(uri, json={}).status_code == 401
    with pytest.raises(HttpResponseError, match="no keys"):
        ml_client.online_endpoints._online_operation.list_keys(
            ml_client.resource_group_name, ml_client.workspace_name, "entra"
        )
    deploy("own-token", "blue", auth_mode="aml_token")
    own = ml_client.online_endpoints.get_keys("own-token").access_token
    other = uri.replace("entra", "own-token")
    traffic(ml_client, "own-token", {"blue": 100})
    assert httpx.post(other, json={}, headers={"Authorization": f"Bearer {own}"}).status_code == 200
    assert status(own) == 401, "a token of one endpoint opens no other"


@slow
def test_invoke_of_the_sdk(ml_client: Any, pair: str, tmp_path: Path) -> None:
    traffic(ml_client, pair, {"blue": 100})
    (tmp_path / "request.json").write_text("{}")
    answer = ml_client.online_endpoints.invoke(pair, request_file=str(tmp_path / "request.json"))
    assert json.loads(answer)["colour"] == "blue"
    assert json.loads(answer)["threads"] == "--threads 16"


@slow
def test_sixteen_slow_requests_do_not_wait_for_each_other(ml_client: Any, client: httpx.Client, pair: str) -> None:
    traffic(ml_client, pair, {"blue": 100})

    def ask(_: int) -> int:
        return client.post("/score", json={"sleep": 4}).status_code

    started = time.monotonic()
    with ThreadPoolExecutor(17) as pool:
        sleepers = [pool.submit(ask, n) for n in range(16)]
        time.sleep(0.5)
        assert client.post("/score", json={}, headers={HEADER: "green"}).status_code == 200
        assert not any(sleeper.done() for sleeper in sleepers), "it waited for them"
        assert {sleeper.result() for sleeper in sleepers} == {200}
    assert time.monotonic() - started < 32, "one after the other they take twice that"


@slow
def test_a_stream_goes_on_piece_by_piece_and_counts_once(
    ml_client: Any, client: httpx.Client, pair: str, emulator_settings: Settings, tmp_path: Path
) -> None:
    traffic(ml_client, pair, {"blue": 100})
    before, started = len(rows(emulator_settings.home, pair)), time.monotonic()
    asked = {"events": 10, "mark": str(tmp_path / "mark")}
    with client.stream("POST", "/score", json=asked) as answer:
        assert (answer.status_code, answer.headers[HEADER]) == (200, "blue")
        parts = [(time.monotonic() - started, line) for line in answer.iter_lines() if line]
    assert [line for _, line in parts] == [f"data: {n}" for n in range(10)]
    assert parts[-1][0] - parts[0][0] > 0.6, "it was collected first"
    assert rows(emulator_settings.home, pair)[before:] == [("blue", 200, 200, 0)]


@slow
def test_the_time_limit_holds_for_a_stream(deploy: Deploy, pair: str, client: httpx.Client, tmp_path: Path) -> None:
    deploy(pair, "slow", request_timeout_ms=1500, max_concurrent_requests_per_instance=1)
    asked = {"events": 100, "mark": str(tmp_path / "mark")}
    said = []
    with (
        pytest.raises(httpx.RemoteProtocolError),
        client.stream("POST", "/score", json=asked, headers={HEADER: "slow"}) as answer,
    ):
        for line in answer.iter_lines():
            said.append(line)
    assert 5 < len(said) < 40  # 30 at most in 1.5 s; fewer where the machine is slow
    assert client.post("/score", json={}, headers={HEADER: "slow"}).status_code == 200, "the slot was not given back"


@slow
@pytest.mark.parametrize("events", [200, 0])
def test_a_client_that_leaves_takes_the_containers_work_along(
    ml_client: Any, client: httpx.Client, pair: str, emulator_settings: Settings, tmp_path: Path, events: int
) -> None:
    """In the middle of a stream the container's own connection ends; before an answer the slot is free and the log
    says 499."""
    traffic(ml_client, pair, {"blue": 100})
    before, mark = len(rows(emulator_settings.home, pair)), tmp_path / "mark"
    if events:
        with client.stream("POST", "/score", json={"events": events, "mark": str(mark)}) as answer:
            next(answer.iter_lines())
        until = time.monotonic() + 60
        while not mark.exists() or not mark.read_text():
            assert time.monotonic() < until, "the container goes on for nobody"
            time.sleep(0.05)
        assert int(mark.read_text()) < events / 2
        assert rows(emulator_settings.home, pair)[before:] == [("blue", 200, 200, 0)]
    else:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/score", json={"sleep": 3}, timeout=0.5)
        assert rows(emulator_settings.home, pair)[before:] == [("blue", 499, 0, 0)]
