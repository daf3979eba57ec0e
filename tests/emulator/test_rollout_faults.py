"""Rollouts of real deployments while Azure misbehaves by plan: each ends on one colour, and says so when it read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.verdict import write_verdict
from scripts.endpoint import Endpoint
from scripts.rollout import policy as policies
from scripts.rollout.back import Wish, roll_back
from scripts.rollout.store import BlobStore
from tests.emulator.faulty_place import Place as Faulty
from tests.emulator.faulty_place import environment, faulty_place
from tests.emulator.test_rollout_lives import NAME, answers, arguments, deployed, passed, state, traffic
from tests.emulator.test_rollout_state import ROOT, Place, Said, command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ENDPOINT = {"endpoint": NAME}
BACK = Wish("again", to="blue")
SMOKE = 5  # requests to the candidate before it has traffic


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Faulty, Place, dict[str, str]]]:
    with faulty_place(tmp_path_factory.mktemp("faults")) as (faulty, variables):
        with environment(variables):
            place = deployed(faulty.ml, tmp_path_factory.mktemp("colours"), policy())
            write_verdict(place.config.with_name("verdict.json"), passed())
        yield faulty, place, variables


@pytest.fixture
def here(made: tuple[Faulty, Place, dict[str, str]]) -> Iterator[tuple[Faulty, Place]]:
    faulty, place, variables = made
    with environment(variables):  # for each test: between two of them it may be the other emulator's
        yield faulty, place


def policy() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(policies.LOCAL.read_text())
    return values


def rolled(here: tuple[Faulty, Place], folder: Path, *faults: dict[str, Any]) -> tuple[Said, dict[str, Any]]:
    """`rollout run` from blue, under these faults; what it said and its record."""
    faulty, place = here
    faulty.faults()
    back_to_blue(place)
    faulty.faults(*faults)
    said = command(place, folder, *arguments(place, folder), "--again")
    return said, json.loads((folder / "rollout.json").read_text())


def back_to_blue(place: Place) -> None:
    """As `rollback --to blue` does it, which then looks for seconds whether it stays so; nobody else is at it here."""
    if traffic(place) != {"blue": 100}:
        roll_back(Endpoint(place.settings), lambda: BlobStore(place.settings), BACK, print, grace_seconds=0)


def test_a_bad_candidate_is_back_within_seconds_by_one_write(here: tuple[Faulty, Place], tmp_path: Path) -> None:
    bad = {"kind": "scoring", "name": "bad", **ENDPOINT, "deployment": "green", "after": SMOKE, "model_status": 500}
    said, record = rolled(here, tmp_path, bad)
    assert (said.code, record["state"]) == (1, "ROLLED_BACK"), said.error
    assert traffic(here[1]) == {"blue": 100}
    assert [write["traffic"] for write in record["writes"]] == [{"blue": 90, "green": 10}, {"blue": 100, "green": 0}]
    decided = datetime.fromisoformat(record["writes"][-1]["at"])
    ended = state(here[1])
    assert ended is not None
    assert (ended.since - decided).total_seconds() <= 5  # until it was read back
    assert here[0].strikes()


@pytest.mark.parametrize(
    "fault",
    [
        # The answer to the write of 50 % is lost, with all three repetitions that the SDK makes by itself.
        {"kind": "lost", "method": "PUT", "resource": "endpoint", "after": 1, "times": 4},
        # Two writes are refused because something else is under way.
        {"kind": "status", "path": "/onlineEndpoints/[^/]+$", "method": "PUT", "status": 409, "times": 2},
        {"kind": "stale", "times": 2, "reads": 2},
        {"kind": "slow", "operation": "endpoint-update", "seconds": 2},
        {"kind": "status", "path": "/onlineEndpoints/", "method": "GET", "status": 503, "share": 0.1},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
)
def test_what_azure_does_on_a_bad_day_does_not_lose_a_release(
    here: tuple[Faulty, Place], tmp_path: Path, fault: dict[str, Any]
) -> None:
    endpoint = {} if fault["kind"] == "status" else ENDPOINT
    said, record = rolled(here, tmp_path, {"name": "bad-day", **endpoint, **fault})
    assert (said.code, record["state"]) == (0, "PROMOTED"), f"{said.out}{said.error}"
    assert traffic(here[1]) == {"green": 100}
    assert [step["weight"] for step in record["steps"]] == [10, 50, 100]
    assert here[0].strikes(), "the fault never struck"


def test_a_second_writer_sends_everything_back(here: tuple[Faulty, Place], tmp_path: Path) -> None:
    drift = {
        "kind": "drift",
        "name": "drift",
        **ENDPOINT,
        "times": 1,
        "seconds": 0,
        "traffic": {"blue": 30, "green": 70},
    }
    said, record = rolled(here, tmp_path, drift)
    assert (said.code, record["state"]) == (1, "ROLLED_BACK"), said.out
    assert "drift" in record["reason"]
    assert traffic(here[1]) == {"blue": 100}


def test_of_two_controllers_at_once_one_goes_on_and_the_traffic_is_its(
    here: tuple[Faulty, Place], tmp_path: Path
) -> None:
    faulty, place = here
    faulty.faults()
    back_to_blue(place)
    answers(place, slow=True)  # neither is done before the other has begun
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "scripts", *arguments(place, folder), "--again"],
            cwd=ROOT,
            env={**os.environ, "MLOPS_CONFIG": str(place.config)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for folder in folders
    ]
    said = [process.communicate(timeout=180)[0] for process in processes]
    answers(place, slow=False)
    ended = state(place)
    assert ended is not None
    assert sorted(process.returncode for process in processes) == [0, 1], said
    assert ended.phase.value == "PROMOTED", said
    assert traffic(place) == {"green": 100}
    whole = [ended.writes[place].traffic["green"] for place in range(len(ended.writes))]
    assert whole == sorted(whole), "weights only rise"
