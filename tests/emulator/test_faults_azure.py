"""Each kind of fault as the unmodified SDK and the callers of an endpoint meet it; the plan changes while all runs."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.context import Settings
from emulator.home import MARKER
from tests.emulator.conftest import Cli
from tests.emulator.faulty_place import HEADER, Place, environment, faulty_place, live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
BLUE, SPLIT = {"blue": 100}, {"blue": 90, "green": 10}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, dict[str, str]]]:
    with faulty_place(tmp_path_factory.mktemp("faulty")) as found:
        yield found


@pytest.fixture
def place(running: tuple[Place, dict[str, str]]) -> Iterator[Place]:
    """Blue has all the traffic and nothing goes wrong yet."""
    one, variables = running
    with environment(variables):
        one.faults()
        one.begin(BLUE).result()
        yield one
        one.faults()


def test_nothing_goes_wrong_without_faults(place: Place) -> None:
    assert live(place.begin(SPLIT).result()) == SPLIT
    assert place.ask().status_code == 200
    assert place.strikes() == []


def test_slow_operations_take_their_time_and_only_those_named(place: Place) -> None:
    place.faults({"kind": "slow", "name": "s", "operation": "endpoint-update", "seconds": 1.5})
    started = time.monotonic()
    poller = place.begin(SPLIT)
    assert place.ml.online_endpoints.get("phi").provisioning_state.lower() == "updating"
    poller.result()
    assert time.monotonic() - started >= 1.5
    place.begin_deploy("green", instances=2).result()
    assert [(line["kind"], line["name"]) for line in place.strikes()] == [("slow", "s")]
    place.faults({"kind": "slow", "name": "s", "operation": "deployment-update", "deployment": "green", "seconds": 1})
    started = time.monotonic()
    place.begin_deploy("green").result()
    assert time.monotonic() - started >= 1


def test_a_traffic_write_is_not_seen_for_some_reads(place: Place) -> None:
    place.faults({"kind": "stale", "name": "s", "reads": 3, "times": 1})
    done = place.begin({"green": 100}, note="new").result()  # the SDK reads at the end
    assert (live(done), done.tags) == (BLUE, {"note": "new"})
    assert [place.traffic(), next(map(live, place.ml.online_endpoints.list()))] == [BLUE, BLUE]
    assert place.ask("").headers[HEADER] == "green", "requests go where they were told to go"
    assert place.traffic() == {"green": 100}
    assert [line["request"].split()[0] for line in place.strikes()] == ["PUT", "GET", "GET", "GET"]
    place.begin(BLUE, note="newer").result()
    assert place.traffic() == BLUE, "once was enough"


def test_a_traffic_write_is_not_seen_for_some_time_nor_are_its_tags(place: Place) -> None:
    place.begin(BLUE, note="old").result()
    place.faults({"kind": "stale", "name": "s", "seconds": 3, "tags": True})
    started = time.monotonic()
    place.begin(SPLIT, note="new").result()
    found = place.ml.online_endpoints.get("phi")
    assert (live(found), found.tags) == (BLUE, {"note": "old"})
    while place.traffic() == BLUE:
        time.sleep(0.05)
    assert 2.9 <= time.monotonic() - started < 30
    assert place.ml.online_endpoints.get("phi").tags == {"note": "new"}
    place.begin(BLUE).result()
    assert place.traffic() == SPLIT
    place.faults()
    assert place.traffic() == BLUE, "a fault that is gone is over"


def test_a_write_while_another_is_under_way_conflicts(place: Place) -> None:
    from azure.core.exceptions import HttpResponseError

    slow = {"kind": "slow", "name": "slow", "operation": "endpoint-update", "seconds": 3}
    place.faults(slow)
    first, second = place.begin(SPLIT), place.begin({"green": 100})  # without the fault the last write wins
    assert [live(poller.result()) for poller in (first, second)] == [{"green": 100}] * 2
    place.faults(slow, {"kind": "conflict", "name": "c"})
    running = place.begin(SPLIT)
    for write in (lambda: place.begin(BLUE), lambda: place.begin_deploy("green")):
        with pytest.raises(HttpResponseError) as refused:
            write()
        assert (refused.value.status_code, refused.value.error.code) == (409, "Conflict")
    assert live(running.result()) == SPLIT
    assert {line["name"] for line in place.strikes()} == {"slow", "c"}
    assert live(place.begin(BLUE).result()) == BLUE


def test_how_wide_a_conflict_is(place: Place) -> None:
    from azure.core.exceptions import HttpResponseError

    slow = {"kind": "slow", "name": "slow", "operation": "deployment-update", "deployment": "green", "seconds": 5}
    place.faults(slow, {"kind": "conflict", "name": "c"})
    running = place.begin_deploy("green")
    assert live(place.begin(SPLIT).result()) == SPLIT
    place.faults(slow, {"kind": "conflict", "name": "c", "scope": "endpoint", "times": 1})
    with pytest.raises(HttpResponseError, match="green"):
        place.begin(BLUE)
    running.result()
    assert place.traffic() == SPLIT


def test_a_lost_answer_is_asked_for_again_and_the_write_is_there(place: Place) -> None:
    before = place.writes()
    place.faults({"kind": "lost", "name": "l", "method": "PUT", "resource": "endpoint", "times": 1})
    assert live(place.begin(SPLIT).result()) == SPLIT
    assert place.writes() == before + 2, "the SDK repeats a PUT whose answer it did not get"
    assert [(line["kind"], line["name"]) for line in place.strikes()] == [("lost", "l")]


def test_when_every_answer_is_lost_the_client_cannot_know(place: Place) -> None:
    from azure.core.exceptions import ServiceResponseError

    before = place.writes()
    place.faults({"kind": "lost", "name": "l", "method": "PUT", "endpoint": "phi"})
    with pytest.raises(ServiceResponseError):
        place.begin(SPLIT)
    assert place.writes() == before + 4, "as emulator/faults.example.yaml says"
    assert place.traffic() == SPLIT, "the write is there"
    log = (place.settings.home / "logs" / "serve.log").read_text()
    assert "Traceback" not in log


def test_some_requests_are_refused_and_nothing_is_carried_out(place: Place) -> None:
    from azure.core.exceptions import HttpResponseError

    again = {"kind": "status", "name": "r", "method": "GET", "endpoint": "phi", "status": 429, "retry_after": 1}
    place.faults({**again, "times": 2})
    started = time.monotonic()
    assert place.traffic() == BLUE
    assert time.monotonic() - started >= 2, "the SDK waits as long as it is told"
    assert len(place.strikes()) == 2
    for status, code in ((503, "ServiceUnavailable"), (403, "AuthorizationFailed")):
        place.faults({"kind": "status", "name": "r", "method": "PUT", "resource": "endpoint", "status": status})
        with pytest.raises(HttpResponseError) as refused:
            place.begin(SPLIT)
        assert refused.value.status_code == status
        assert code in str(refused.value.response.text())
    place.faults()
    assert place.traffic() == BLUE


def test_polls_can_be_refused(place: Place) -> None:
    place.faults({"kind": "status", "name": "p", "path": "mfeOperationsStatus", "status": 500, "times": 2})
    assert live(place.begin(SPLIT).result()) == SPLIT
    assert len(place.strikes()) == 2


def test_a_deployment_fails(place: Place) -> None:
    from azure.core.exceptions import HttpResponseError

    place.faults({"kind": "provisioning", "name": "f", "deployment": "red", "ends": "failed", "times": 1})
    with pytest.raises(HttpResponseError, match="crashed") as failed:
        place.begin_deploy("red").result()
    assert failed.value.error.code == "ResourceNotReady"
    assert place.ml.online_deployments.get("red", "phi").provisioning_state == "Failed"
    assert place.ask("red").status_code == 503
    place.begin_deploy("red").result()
    assert place.ask("red").status_code == 200
    place.ml.online_deployments.begin_delete("red", "phi").result()


def test_a_deployment_is_stuck_until_the_plan_says_otherwise(place: Place) -> None:
    from azure.core.exceptions import HttpResponseError

    def state() -> str:
        return place.ml.online_deployments.get("grey", "phi").provisioning_state

    stuck = {"kind": "provisioning", "name": "g", "deployment": "grey", "ends": "stuck"}
    place.faults(stuck)
    poller = place.begin_deploy("grey")
    time.sleep(1)
    place.faults(stuck, {"kind": "lost", "name": "other", "endpoint": "nobody"})
    time.sleep(0.5)
    assert (state(), poller.done()) == ("Creating", False)
    with pytest.raises(HttpResponseError) as refused:
        place.begin_deploy("grey")
    assert refused.value.status_code == 409
    place.faults({**stuck, "ends": "failed", "code": "OutOfCapacity"})
    with pytest.raises(HttpResponseError) as failed:
        poller.result()
    assert (failed.value.error.code, state()) == ("OutOfCapacity", "Failed")
    place.faults({**stuck, "operation": "deployment-update"})
    poller = place.begin_deploy("grey")
    assert state() == "Updating"
    place.faults()
    poller.result()
    assert state() == "Succeeded"
    place.faults(stuck)
    poller = place.begin_deploy("grey")
    place.ml.online_deployments.begin_delete("grey", "phi").result()
    with pytest.raises(HttpResponseError):
        poller.result()
    assert "grey" not in {each.name for each in place.ml.online_deployments.list("phi")}


def test_a_second_writer_sets_the_traffic(place: Place) -> None:
    drift = {"kind": "drift", "name": "d", "traffic": {"green": 100}, "times": 1}
    place.faults({**drift, "after": 1})
    assert live(place.begin(SPLIT).result()) == SPLIT
    place.begin(SPLIT, note="no traffic write").result()
    place.begin(BLUE).result()
    assert place.traffic() == {"green": 100}
    assert live(place.begin(BLUE, mine="yes").result()) == BLUE
    place.faults({**drift, "seconds": 3})
    assert live(place.begin(SPLIT, mine="yes").result()) == SPLIT
    time.sleep(3.2)
    found = place.ml.online_endpoints.get("phi")
    assert (live(found), found.tags) == ({"green": 100}, {"mine": "yes"})
    assert place.ask("").headers[HEADER] == "green"
    place.faults({**drift, "traffic": {"pink": 100}})
    assert live(place.begin(BLUE).result()) == BLUE
    assert "pink" in place.strikes()[-1]["error"]


def test_a_deployment_answers_badly(place: Place) -> None:
    bad = {"kind": "scoring", "name": "b", "deployment": "green"}
    place.faults({**bad, "model_status": 500, "after": 2, "times": 3})
    answers = [place.ask() for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200, 200, 424, 424, 424, 200]
    assert answers[2].headers["ms-azureml-model-error-statuscode"] == "500"
    assert answers[2].headers[HEADER] == "green"
    assert place.rows(6) == [("green", 200, 200)] * 2 + [("green", 424, 500)] * 3 + [("green", 200, 200)]
    assert place.ask("blue").status_code == 200
    place.faults({**bad, "status": 429, "share": 0.5})
    fates = Counter(place.ask().status_code for _ in range(60))
    assert set(fates) == {200, 429}
    assert 10 < fates[429] < 50
    assert fates[429] == len(place.strikes()) == Counter(place.rows(60))[("green", 429, 0)]


def test_a_deployment_answers_late_or_never(place: Place) -> None:
    bad = {"kind": "scoring", "name": "b", "endpoint": "phi", "deployment": "g*"}
    place.faults({**bad, "seconds": 0.7, "times": 1})
    assert (place.ask().status_code, place.rows(1)) == (200, [("green", 200, 200)])
    with sqlite3.connect(place.settings.home / "traffic.db") as database:
        [latency] = database.execute("SELECT latency_ms FROM requests ORDER BY at DESC LIMIT 1").fetchone()
    assert latency >= 700
    place.faults({**bad, "hang": True, "times": 1, "after_seconds": 2})
    assert place.ask().status_code == 200
    time.sleep(2.1)
    started = time.monotonic()
    assert place.ask().status_code == 408
    assert 2.5 < time.monotonic() - started < 30
    assert place.rows(1) == [("green", 408, 0)]
    assert place.ask().status_code == 200


def test_a_mirrored_copy_fails_as_well(place: Place) -> None:
    place.faults({"kind": "scoring", "name": "m", "deployment": "green", "model_status": 500})
    endpoint = place.ml.online_endpoints.get("phi")
    endpoint.mirror_traffic = {"green": 50}
    place.ml.online_endpoints.begin_create_or_update(endpoint).result()
    assert {place.ask("").status_code for _ in range(20)} == {200}
    assert ("green", 0, 500) in place.rows(40)
    place.faults({"kind": "scoring", "name": "m", "deployment": "green", "status": 503})
    assert {place.ask("").status_code for _ in range(20)} == {200}
    assert ("green", 0, 0) in place.rows(30)
    endpoint.mirror_traffic = {}
    place.ml.online_endpoints.begin_create_or_update(endpoint).result()


def test_the_command_line_refuses_a_bad_plan_before_it_touches_anything(cli: Cli, tmp_path: Path) -> None:
    last = cli.home / "run"
    last.mkdir(parents=True)
    (last / MARKER).write_text("")
    (last / "requests.jsonl").write_text("of the last run")
    plan = tmp_path / "plan.yaml"
    plan.write_text("faults: [{kind: slow, name: a}]")
    refused = cli.run("run", "--faults", str(plan), "--", "true")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert f"{plan} is wrong at faults[0].seconds: it is missing" in refused.stderr
    assert (last / "requests.jsonl").read_text() == "of the last run"
    with environment({**os.environ, "EMULATOR_FAULTS": str(plan)}):
        assert cli.run("up").returncode == 3
        plan.write_text("faults: []")
        assert cli.run("up").returncode == 0
    assert Settings.load(cli.home).faults == str(plan)
    assert (cli.home / "faults.jsonl").read_text() == ""
