"""Azure Monitor, asked by the rollout's own code through the unmodified SDK: what was logged is what is counted."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from azure.core.exceptions import HttpResponseError
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from emulator.command import command_env
from emulator.context import Settings
from emulator.identity import Tokens
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from emulator.traffic_log import Row, TrafficLog
from scripts import azure_ml
from scripts import settings as environments
from scripts.errors import AzureFailed
from scripts.rollout.monitor import BAD, LogsMonitor, MetricsMonitor, Minute, Monitor, mirrored

ROOT = Path(__file__).parents[2]
NAME = "monitored"
BOTH = pytest.mark.parametrize("kind", [MetricsMonitor, LogsMonitor])
MINUTE = timedelta(minutes=1)
ROW = Row(0, "", "blue", 200, 200, 100, 0, "r")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
_HOURS = itertools.count(24)


def here(ml_client: Any, folder: Path, **change: object) -> environments.Settings:
    values = yaml.safe_load((ROOT / "scripts/environments/demo.yaml").read_text())
    values |= {"resource_group": ml_client.resource_group_name, "workspace": ml_client.workspace_name, **change}
    (folder / "here.yaml").write_text(yaml.safe_dump(values))
    return environments.load(folder / "here.yaml")


@pytest.fixture(scope="module")
def place(ml_client: Any, tmp_path_factory: pytest.TempPathFactory) -> environments.Settings:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    for name in (NAME, "unheard"):
        made = ManagedOnlineEndpoint(name=name, auth_mode="aad_token")
        ml_client.online_endpoints.begin_create_or_update(made).result()
    return here(ml_client, tmp_path_factory.mktemp("settings"))


def endpoint_id(place: environments.Settings, name: str = NAME) -> str:
    workspace = f"/providers/Microsoft.MachineLearningServices/workspaces/{place.workspace}"
    subscription = f"/subscriptions/{place.subscription_id}/resourceGroups/{place.resource_group}"
    return f"{subscription}{workspace}/onlineEndpoints/{name}".lower()


Write = Callable[[Sequence[Row]], None]


@pytest.fixture(scope="module")
def write(place: environments.Settings, emulator_home: Path) -> Write:
    """Put rows of the endpoint into the traffic log, by the time at which they were answered."""
    log = TrafficLog(emulator_home / "traffic.db")

    def put(rows: Sequence[Row]) -> None:
        for row in rows:
            log.add(replace(row, at=row.at - row.latency_ms / 1000, endpoint=endpoint_id(place)))
        log.flush()

    return put


Monitors = tuple[Monitor, Monitor]


@pytest.fixture(scope="module")
def monitors(place: environments.Settings) -> Monitors:
    return MetricsMonitor(place, NAME), LogsMonitor(place, NAME)


def quiet_hour() -> datetime:
    """The start of an hour long ago of which nobody has written anything yet."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=next(_HOURS))


def expected(rows: Sequence[Row], names: Sequence[str], slow_ms: float | None) -> dict[str, list[Minute]]:
    """The minutes, counted the plain way."""
    found: dict[str, list[Minute]] = {}
    for name in names:
        own = [row for row in rows if row.deployment == name and not row.mirrored]
        found[name] = []
        for at in sorted({int(row.at // 60) for row in own}):
            now = [row for row in own if row.at // 60 == at]
            good = [row for row in now if row.status == 200]
            bad = [row for row in now if row.status in BAD]
            slow = None if slow_ms is None else sum(row.latency_ms > slow_ms for row in (*good, *bad))
            found[name].append(Minute(datetime.fromtimestamp(at * 60, UTC), len(good), len(bad), slow))
    return found


ANSWERS = st.sampled_from(
    ((200, 200), (424, 500), (424, 400), (429, 0), (408, 0), (502, 0), (503, 0), (404, 0), (401, 0))
)
ROWS = st.lists(
    st.builds(
        lambda second, name, answer, latency, copy: replace(
            ROW,
            at=second,
            deployment=name,
            status=0 if copy else answer[0],
            model_status=answer[1],
            latency_ms=latency,
            mirrored=int(copy),
        ),
        st.integers(0, 59_999).map(lambda hundredth: hundredth / 100 + 0.005),  # between what rounding could move
        st.sampled_from(("blue", "green", "")),
        ANSWERS,
        st.integers(1, 60_000),
        st.booleans(),
    ),
    max_size=60,
)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.integers(0, 300), st.integers(0, 300))
def test_both_monitors_count_the_rows_of_whole_minutes(
    write: Write, monitors: Monitors, rows: Sequence[Row], after: int, before: int
) -> None:
    hour = quiet_hour()
    rows = [replace(row, at=hour.timestamp() + row.at) for row in rows]
    write(rows)
    since, until = hour + timedelta(seconds=after), hour + timedelta(seconds=600 - before)
    first, last = -(-after // 60) * 60, (600 - before) // 60 * 60
    whole = [row for row in rows if first <= row.at - hour.timestamp() < last]
    names = ["blue", "green", "never-deployed"]
    metrics, logs = monitors
    assert metrics.minutes(names, since, until, 1500) == expected(whole, names, None)
    assert logs.minutes(names, since, until, 1500) == expected(whole, names, 1500)
    assert logs.minutes(names, since, until) == expected(whole, names, None)


@BOTH
def test_the_minute_under_way_is_there_but_not_counted(
    place: environments.Settings, write: Write, kind: Callable[..., Monitor]
) -> None:
    if time.time() % 60 > 55:
        time.sleep(6)
    now = datetime.now(UTC)
    write([replace(ROW, at=now.timestamp() - 60), replace(ROW, at=now.timestamp() - 0.2)])
    under_way = now.replace(second=0, microsecond=0)
    if kind is MetricsMonitor:
        resource = endpoint_id(place)
        points = raw(place, resource, under_way, under_way + MINUTE, "deployment eq 'blue' and statusCode eq '*'")
        assert sum(point.average or 0 for _, point in points) >= 1
    minutes = kind(place, NAME).minutes(["blue"], now - timedelta(minutes=3), now + timedelta(hours=1))["blue"]
    assert minutes
    assert max(one.at for one in minutes) == under_way - MINUTE


@BOTH
def test_an_endpoint_that_answered_nobody_has_no_minutes(
    place: environments.Settings, kind: Callable[..., Monitor]
) -> None:
    now = datetime.now(UTC)
    assert kind(place, "unheard").minutes(["blue"], now - timedelta(hours=1), now) == {"blue": []}
    assert kind(place, NAME).minutes([], now - timedelta(hours=1), now) == {}
    assert kind(place, NAME).minutes(["blue"], now - timedelta(seconds=1), now) == {"blue": []}


@pytest.mark.parametrize("slow_ms", [float("nan"), float("inf"), -1.0])
def test_slow_is_a_time(monitors: Monitors, slow_ms: float) -> None:
    now = datetime.now(UTC)
    with pytest.raises(ValueError, match="milliseconds"):
        monitors[1].minutes(["blue"], now - timedelta(hours=1), now, slow_ms)


def test_an_endpoint_that_is_not_there_is_azures_failure(place: environments.Settings) -> None:
    now = datetime.now(UTC)
    with pytest.raises(AzureFailed, match="404"):
        MetricsMonitor(place, "nowhere").minutes(["blue"], now - timedelta(hours=1), now)


def test_minutes_that_may_still_grow_are_not_asked_for(write: Write, ml_client: Any, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    write([replace(ROW, at=now.timestamp() - 60 * n) for n in range(1, 8)])
    patient = MetricsMonitor(here(ml_client, tmp_path, monitor_delay_minutes=4), NAME)
    late = max(one.at for one in patient.minutes(["blue"], now - timedelta(minutes=8), now)["blue"])
    assert timedelta(minutes=4) < datetime.now(UTC) - late < timedelta(minutes=6)


def raw(place: environments.Settings, resource: str, since: datetime, until: datetime, where: str, **more: Any) -> Any:
    """Points of the metrics data plane as they are, with the values of their dimensions."""
    from azure.monitor.querymetrics import MetricsClient

    client = MetricsClient(f"https://{place.location}.metrics.monitor.azure.com", azure_ml.credential())
    asked = {
        "metric_namespace": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints",
        "metric_names": ["RequestsPerMinute"],
        "granularity": MINUTE,
        "aggregations": ["Average"],
        **more,
    }
    (result,) = client.query_resources(resource_ids=[resource], timespan=(since, until), filter=where, **asked)
    return [(one.metadata_values, point) for one in result.metrics[0].timeseries for point in one.data]


def test_a_mean_hides_the_sum_of_what_was_not_split(place: environments.Settings, write: Write) -> None:
    """Why the monitor splits by the model's status: the same request without it gives 4 and not 8."""
    hour = quiet_hour()
    failed = replace(ROW, at=hour.timestamp() + 1, status=424)
    write([replace(failed, model_status=500)] * 3 + [replace(failed, model_status=400)] * 5)
    where = "deployment eq 'blue' and statusCode eq '*'"
    points = raw(place, endpoint_id(place), hour, hour + 2 * MINUTE, where)
    assert points[0][0] == {"deployment": "blue", "statuscode": "424"}
    assert [point.average for _, point in points] == [4.0, None]
    found = MetricsMonitor(place, NAME).minutes(["blue"], hour, hour + 2 * MINUTE)
    assert found == {"blue": [Minute(hour, 0, 8)]}


def test_more_than_ten_series_all_come(place: environments.Settings, write: Write) -> None:
    hour, codes = quiet_hour(), range(500, 513)
    write([replace(ROW, at=hour.timestamp(), status=code, model_status=0) for code in codes])
    assert len(raw(place, endpoint_id(place), hour, hour + MINUTE, "statusCode eq '*'")) == 10
    assert MetricsMonitor(place, NAME).minutes(["blue"], hour, hour + MINUTE) == {"blue": [Minute(hour, 0, 13)]}


@pytest.mark.parametrize(
    "change",
    [
        {"granularity": timedelta(minutes=5)},
        {"aggregations": ["Total"]},
        {"metric_names": ["Requests"]},
        {"metric_namespace": "Microsoft.Storage/storageAccounts"},
        {"filter": "colour eq '*'"},
        {"filter": "deployment eq 'blue' or statusCode eq '200'"},
        {"filter": "deployment ne 'blue'"},
    ],
)
def test_other_questions_of_metrics_are_refused(place: environments.Settings, change: dict[str, Any]) -> None:
    hour = quiet_hour()
    where = change.pop("filter", "deployment eq '*'")
    with pytest.raises(HttpResponseError) as refused:
        raw(place, endpoint_id(place), hour, hour + MINUTE, where, **change)
    assert refused.value.status_code == 400
    change["filter"] = where


@pytest.mark.parametrize(
    ("query", "status"), [("Heartbeat | take 1", 400), ("AmlOnlineEndpointTrafficLog | count", 400), (None, 404)]
)
def test_other_questions_of_the_log_are_refused(place: environments.Settings, query: str | None, status: int) -> None:
    from azure.monitor.query import LogsQueryClient

    log = place.log_analytics_workspace_id if query else "55555555-5555-5555-5555-555555555555"
    for endpoint in ("https://api.loganalytics.io", "https://api.loganalytics.azure.com"):
        client = LogsQueryClient(azure_ml.credential(), endpoint=endpoint)
        with pytest.raises(HttpResponseError) as refused:
            client.query_workspace(log, query or "x", timespan=None)
        assert refused.value.status_code == status


@BOTH
def test_who_lacks_the_role_reads_which_and_where(
    place: environments.Settings,
    ml_client: Any,
    credential: Any,
    emulator_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    kind: Callable[..., Monitor],
) -> None:
    from azure.mgmt.msi import ManagedServiceIdentityClient

    identities = ManagedServiceIdentityClient(credential, place.subscription_id).user_assigned_identities
    made = identities.create_or_update(ml_client.resource_group_name, "no-reader", {"location": place.location})
    tokens = Tokens(emulator_settings.home, emulator_settings.tenant_id)

    class Nobody:
        def get_token(self, scope: str, **_: Any) -> Any:
            return SimpleNamespace(token=tokens.mint(scope, str(made.client_id)), expires_on=int(time.time()) + 600)

    monkeypatch.setattr(azure_ml, "credential", Nobody)
    role, scope = {
        MetricsMonitor: ("Monitoring Reader", f"/subscriptions/{place.subscription_id}"),
        LogsMonitor: ("Log Analytics Reader", place.log_analytics_workspace_id),
    }[kind]
    now = datetime.now(UTC)
    with pytest.raises(AzureFailed) as refused:
        kind(place, NAME).minutes(["blue"], now - timedelta(hours=1), now)
    assert role in str(refused.value)
    assert scope in str(refused.value)


@BOTH
def test_a_busy_day_is_counted_minute_by_minute_without_a_loss(
    place: environments.Settings, write: Write, kind: Callable[..., Monitor]
) -> None:
    random.seed(7)
    end = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(days=40 if kind is MetricsMonitor else 50)
    start = end - timedelta(days=1)
    kinds = [(200, 200)] * 40 + [(424, 500), (429, 0), (503, 0)]
    write(
        [
            replace(
                ROW, at=start.timestamp() + random.uniform(0, 86399), deployment=name, status=code, model_status=told
            )
            for name in ("blue", "green")
            for code, told in random.choices(kinds, k=30_000)
        ]
    )
    found = kind(place, NAME).minutes(["blue", "green"], start, end, 50)
    assert [sum(one.good + one.bad for one in found[name]) for name in ("blue", "green")] == [30_000, 30_000]
    assert len(found["blue"]) == 1440


SCORE = """
import json
from azureml_inference_server_http.api.aml_response import AMLResponse
def init():
    pass
def run(raw):
    return AMLResponse({}, json.loads(raw)["status"], json_str=True)
"""


def test_real_requests_and_mirrored_ones_are_told_apart(
    place: environments.Settings, ml_client: Any, emulator_home: Path, tmp_path: Path
) -> None:
    """Half of blue's traffic is copied to green: nobody's request, but the answers that a shadow is judged by."""
    import sqlite3

    from azure.ai.ml.entities import CodeConfiguration, Environment, ManagedOnlineDeployment, ManagedOnlineEndpoint

    from scripts.endpoint import Requests

    (tmp_path / "score.py").write_text(SCORE)
    ml_client.environments.create_or_update(Environment(name="watched", version="1", image="mcr.microsoft.com/any"))
    made = ManagedOnlineEndpoint(name="watched", auth_mode="aad_token")
    made = ml_client.online_endpoints.begin_create_or_update(made).result()
    for colour in ("blue", "green"):
        deployment = ManagedOnlineDeployment(
            name=colour,
            endpoint_name="watched",
            code_configuration=CodeConfiguration(code=str(tmp_path), scoring_script="score.py"),
            environment="azureml:watched:1",
            instance_type="Standard_E4s_v3",
            instance_count=1,
        )
        ml_client.online_deployments.begin_create_or_update(deployment).result()
    made.traffic, made.mirror_traffic = {"blue": 100}, {"green": 50}
    made = ml_client.online_endpoints.begin_create_or_update(made).result()
    started = datetime.now(UTC)
    with Requests(made.scoring_uri) as requests:
        answers = [requests.post({"status": 200 if n % 5 else 500}) for n in range(40)]
    assert [answer.status for answer in answers] == [200 if n % 5 else 424 for n in range(40)]
    log, copies, before = TrafficLog(emulator_home / "traffic.db"), [], -1
    while len(copies) > before:  # nobody waits for the copies
        before = len(copies)
        time.sleep(1)
        copies = [row for row in log.rows(endpoint_id(place, "watched"), started.timestamp()) if row.mirrored]
    assert 5 < len(copies) < 35
    # The minute is not over; everything happened two minutes ago instead.
    with sqlite3.connect(emulator_home / "traffic.db") as database:
        database.execute("UPDATE requests SET at = at - 120 WHERE endpoint = ?", (endpoint_id(place, "watched"),))
    database.close()
    since, until = started - timedelta(minutes=4), datetime.now(UTC)
    for kind in (MetricsMonitor, LogsMonitor):
        found = kind(place, "watched").minutes(["blue", "green"], since, until)
        assert (sum(one.good for one in found["blue"]), sum(one.bad for one in found["blue"])) == (32, 8)
        assert found["green"] == []
    seen = mirrored(place, "watched", ["green", "never-deployed"], since, until)
    assert seen["never-deployed"] == []
    bad = sum(row.model_status != 200 for row in copies)
    good = len(copies) - bad
    assert (sum(one.good for one in seen["green"]), sum(one.bad for one in seen["green"])) == (good, bad)


@pytest.fixture
def late(tmp_path: Path, emulator_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # noqa: ARG001
    """Another emulator, whose Azure Monitor is two hours late; this test's environment leads to it."""
    home = tmp_path / "late"
    monkeypatch.setenv("EMULATOR_MONITOR_DELAY_SECONDS", "7200")
    serve = start_serve(Options(home, {}, operation_seconds=0.05), detached=False)
    try:
        variables = command_env(Settings.load(home))
        for name in set(variables) - {MARK}:
            monkeypatch.setenv(name, variables[name])
        yield home
    finally:
        stop_serve(serve, home)


def test_what_azure_monitor_has_not_seen_yet_is_absent(late: Path, tmp_path: Path) -> None:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import ManagedOnlineEndpoint, Workspace
    from azure.mgmt.resource.resources import ResourceManagementClient

    credential, subscription = azure_ml.credential(), os.environ["AZURE_SUBSCRIPTION_ID"]
    groups = ResourceManagementClient(credential, subscription).resource_groups
    groups.create_or_update("late", {"location": "eastus2"})
    client = MLClient(credential, subscription, "late", "late")
    client.workspaces.begin_create(Workspace(name="late", location="eastus2")).result()
    endpoint = ManagedOnlineEndpoint(name="late", auth_mode="aad_token")
    client.online_endpoints.begin_create_or_update(endpoint).result()
    place = here(client, tmp_path)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    log = TrafficLog(late / "traffic.db")
    for hours in (1, 3):
        log.add(replace(ROW, at=(now - timedelta(hours=hours)).timestamp(), endpoint=endpoint_id(place, "late")))
    log.flush()
    for kind in (MetricsMonitor, LogsMonitor):
        found = kind(place, "late").minutes(["blue"], now - timedelta(hours=5), now)
        assert found == {"blue": [Minute(now - timedelta(hours=3), 1, 0)]}
