"""Sweep jobs through the unmodified SDK: trials that really run, the best one found, none found, a sweep cancelled."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ArmError
from emulator.search_space import check, filled, trials

TERMINAL = ("Completed", "Failed", "Canceled")
# Logs the metric as azureml-mlflow would, without the seconds that its import takes.
LOGGED = """
import json, os, sys, urllib.request
value = abs(float(sys.argv[1]) - 3)
if sys.argv[2] == "fails" or value == 0:  # the best value of all belongs to a trial that does not end well
    sys.exit("error: broken")
api = os.environ["MLFLOW_TRACKING_URI"].replace("azureml://", "https://") + "/api/2.0/mlflow/runs/log-metric"
body = {"run_id": os.environ["MLFLOW_RUN_ID"], "key": "eval_loss", "value": value, "timestamp": 1, "step": 1}
headers = {"authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "content-type": "application/json"}
urllib.request.urlopen(urllib.request.Request(api, json.dumps(body).encode(), headers))
open(sys.argv[3] + "/tried", "w").write(sys.argv[1])
"""
floats = st.floats(1e-3, 1e3)


@given(st.text(min_size=1), floats, floats, st.lists(st.integers() | st.text(), min_size=1), st.integers(1, 30))
def test_values_lie_in_their_span_and_are_the_same_for_the_same_name(
    name: str, one: float, other: float, options: list[Any], most: int
) -> None:
    low, high = sorted((one, other))
    space = {
        "rate": ["loguniform", [math.log(low), math.log(high)]],
        "share": ["uniform", [low, high]],
        "steps": ["quniform", [low, high, 5]],
        "seed": ["randint", [7]],
        "kind": ["choice", [options]],
    }
    drawn = trials(name, space, "Random", most)
    assert drawn == trials(name, space, "random", most)
    assert len(drawn) == most
    for each in drawn:
        assert low * 0.999 <= each["rate"] <= high * 1.001
        assert low <= each["share"] <= high
        assert each["steps"] % 5 == 0
        assert each["seed"] in range(7)
        assert each["kind"] in options


@given(st.lists(st.integers(), min_size=1, max_size=4, unique=True), st.integers(1, 20))
def test_a_grid_tries_each_pair_once(values: list[int], most: int) -> None:
    space = {"a": ["choice", [values]], "b": ["choice", [values]]}
    drawn = [tuple(each.values()) for each in trials("n", space, "Grid", most)]
    assert len(drawn) == len(set(drawn)) == min(most, len(values) ** 2)


def test_what_cannot_be_drawn_is_refused_and_what_is_drawn_stands_in_the_command() -> None:
    space = {"x": ["choice", [[1]]], "y": ["uniform", [0, 1]]}
    line = "go ${{search_space.x}} ${{ search_space.y }} ${{inputs.data}}"
    check(line, space, "Random")
    assert filled(line, {"x": 8, "y": "a b"}) == "go 8 a b ${{inputs.data}}"
    wrong: list[tuple[str, dict[str, list[Any]], str, str]] = [
        (line, space, "Bayesian", "at random or by grid, not Bayesian"),
        (line, space, "Grid", "only takes choices"),
        (line, {"x": ["choose", [[1]]]}, "Random", "no distribution choose"),
        (line, {}, "Random", "no distribution at all"),
        (line, {"x": ["choice", [[1]]]}, "Random", "search_space.y, which this job does not have"),
    ]
    for command, bad, sampling, why in wrong:
        with pytest.raises(ArmError, match=why):
            check(command, bad, sampling)


@pytest.fixture(scope="module")
def ml(ml_client: Any) -> Any:
    from azure.ai.ml.entities import AmlCompute, Environment

    ml_client.compute.begin_create_or_update(AmlCompute(name="cpu-sweeps", size="Standard_DS3_v2")).result()
    ml_client.environments.create_or_update(Environment(name="sweeps", version="1", image="mcr.microsoft.com/any"))
    return ml_client


def submitted(ml: Any, folder: Path, line: str, values: list[Any], **limits: int) -> Any:
    from azure.ai.ml import Output, command
    from azure.ai.ml.sweep import Choice, Objective, SweepJob, SweepJobLimits

    (folder / "main.py").write_text(LOGGED)
    out = {"out": Output(type="uri_folder")}
    work = command(command=line, code=str(folder), environment="sweeps:1", compute="cpu-sweeps", outputs=out)
    job = SweepJob(
        trial=work._to_job(),
        outputs=out,
        compute="cpu-sweeps",
        sampling_algorithm="grid",
        search_space={"x": Choice(values)},
        objective=Objective(goal="minimize", primary_metric="eval_loss"),
        limits=SweepJobLimits(max_total_trials=9, max_concurrent_trials=2, **limits),
    )
    return ml.jobs.create_or_update(job)


def ended(ml: Any, name: str) -> Any:
    deadline = time.monotonic() + 90
    while (job := ml.jobs.get(name)).status not in TERMINAL:
        assert time.monotonic() < deadline, f"{name} is still {job.status}"
        time.sleep(0.2)
    return job


@pytest.mark.slow
def test_the_best_trial_that_completed_is_named_and_its_output_is_there(ml: Any, tmp_path: Path) -> None:
    line = "python main.py ${{search_space.x}} works ${{outputs.out}}"
    job = ended(ml, submitted(ml, tmp_path, line, [1, 3, 4, 9]).name)
    assert job.status == "Completed"
    best = job.properties["best_child_run_id"]
    assert (best, float(job.properties["score"])) == (f"{job.name}_2", 1.0)
    ml.jobs.download(best, download_path=str(tmp_path / "got"), output_name="out")
    assert next((tmp_path / "got").rglob("tried")).read_text() == "4"
    assert ml.jobs.get(f"{job.name}_1").status == "Failed"
    assert job.name in {each.name for each in ml.jobs.list()}
    assert best not in {each.name for each in ml.jobs.list()}, "trials are not jobs of the list"


@pytest.mark.slow
def test_a_sweep_without_a_good_trial_failed_and_a_cancelled_one_stops_its_trials(ml: Any, tmp_path: Path) -> None:
    line = "python main.py ${{search_space.x}} fails ${{outputs.out}}"
    assert ended(ml, submitted(ml, tmp_path, line, [1, 2]).name).status == "Failed"
    asleep = submitted(ml, tmp_path, "sleep 60 # ${{search_space.x}} ${{outputs.out}}", [1, 2, 3])
    trial = f"{asleep.name}_0"
    deadline = time.monotonic() + 60
    while _status(ml, trial) != "Running":
        assert time.monotonic() < deadline, "no trial starts"
        time.sleep(0.1)
    ml.jobs.begin_cancel(asleep.name).result()
    assert ended(ml, asleep.name).status == "Canceled"
    assert _status(ml, trial) == "Canceled"
    assert _status(ml, f"{asleep.name}_2") == "", "a trial began after the sweep was cancelled"


def _status(ml: Any, name: str) -> str:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        found = ml.jobs.get(name).status
    except ResourceNotFoundError:
        return ""
    return str(getattr(found, "value", found))
