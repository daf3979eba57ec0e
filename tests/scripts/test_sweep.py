"""A sweep is the training job of the recipe with some values tried; the bodies are what Azure asks for."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data.manifest import Dataset
from scripts import records, register, settings, sweep
from scripts.errors import AzureFailed, InvalidInput
from scripts.train import Plan, plan, train
from scripts.training_job import command_job, tags
from scripts.training_size import Scale
from tests.emulator.azure_types import types_of

from .made_up_training import put_in_place
from .operate.conftest import Azure, azure

__all__ = ["azure"]

ROOT = Path(__file__).parents[2]
DATASET = json.loads((ROOT / "tests/scripts/fixtures/report/promoted/dataset.json").read_text())
VERSION = "2025-01-01-preview"  # the one that the SDK writes jobs with


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "0" * 8)


def work(**more: Any) -> Plan:
    parts = {name: name * 8 for name in ("recipe_digest", "code_digest", "data_digest", "base_model_digest")}
    return Plan(recipe="multi_gpu", data_asset="azureml:tickets:1", base_model="azureml:base:1", **parts, **more)


def body(job: Any) -> dict[str, Any]:
    """What the SDK would send, before it looks names up. A command job is held against the official types."""
    sent: dict[str, Any] = (job._to_job() if hasattr(job, "_to_job") else job)._to_rest_object().as_dict()
    types = types_of(VERSION)
    assert types is not None
    kind = types.resource("Microsoft.MachineLearningServices/workspaces/jobs")
    assert kind is not None
    if sent["properties"]["jobType"] == "Command":  # our cut of the types has no other
        assert list(types.check(kind, {"properties": sent["properties"]}, "job", request=True)) == []
    return dict(sent["properties"])


@pytest.mark.slow
def test_the_job_of_a_plan_is_spread_and_keeps_its_checkpoints_under_the_name_of_the_work() -> None:
    values = settings.load(Path("scripts/environments/production.yaml"))
    spread = work(scale=Scale(device="gpu", instances=2, processes_per_instance=4), checkpoints=True)
    sent = body(command_job(values, spread, f"{spread.name}-retry1", {}, "azureml:e:1"))
    assert sent["distribution"] == {"distributionType": "PyTorch", "processCountPerInstance": 4}
    assert sent["resources"]["instanceCount"] == 2
    kept = sent["outputs"]["checkpoints"]
    assert kept["mode"] == "ReadWriteMount"
    assert kept["uri"].endswith(f"/paths/checkpoints/{spread.name}")
    assert "--checkpoints ${{outputs.checkpoints}}" in sent["command"]
    alone = body(command_job(values, work(), work().name, {}, "azureml:e:1"))
    assert "distribution" not in alone
    assert set(alone["outputs"]) == {"model", "adapter"}


@pytest.mark.slow
def test_the_sweep_of_a_plan_tries_what_its_file_says() -> None:
    values = settings.load(Path("scripts/environments/production.yaml"))
    searched = work(sweep="lora", checkpoints=True)
    job = command_job(values, searched, searched.name, tags(searched), "azureml:e:1")
    sent = body(job)
    assert {"objective", "samplingAlgorithm", "searchSpace", "trial"} <= set(sent)  # what Azure requires
    assert {"command", "environmentId"} <= set(sent["trial"])
    assert type(job)._load_from_rest(job._to_rest_object()).limits.max_total_trials == 12
    assert searched.name.startswith("sweep-")
    assert sent["objective"] == {"goal": "minimize", "primaryMetric": "eval_loss"}
    kind, (low, high) = sent["searchSpace"]["optimizer_learning_rate"]
    assert (kind, math.exp(low), math.exp(high)) == ("loguniform", pytest.approx(5e-5), pytest.approx(1e-3))
    assert sent["searchSpace"]["lora_rank"] == ["choice", [[8, 16, 32]]]
    assert "--set lora.rank=${{search_space.lora_rank}}" in sent["trial"]["command"]
    assert sent["outputs"]["checkpoints"]["uri"].endswith(f"/{searched.name}/${{{{name}}}}")


@pytest.mark.slow
def test_a_search_over_what_the_recipe_does_not_know_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "training/sweeps/lora.yaml").read_text()
    (tmp_path / "wrong.yaml").write_text(text.replace("lora.rank", "lora.rnk"))
    (tmp_path / "span.yaml").write_text(text.replace("to: 0.001", "of: [1]"))
    (tmp_path / "key.yaml").write_text(text + "more: 1\n")
    data = Dataset.model_validate(DATASET)
    with pytest.raises(InvalidInput, match=r"--sweep takes the name of a file .*\(lora\), not 'none'"):
        plan("a100_lora", data, None, search="none")
    monkeypatch.setattr(sweep, "SWEEPS", tmp_path)
    with pytest.raises(InvalidInput, match=r"--set lora\.rnk=8 changes no value of the recipe"):
        plan("a100_lora", data, None, search="wrong")
    with pytest.raises(InvalidInput, match=r"must be \{of: \[values\]\} or \{from: low, to: high\}"):
        plan("a100_lora", data, None, search="span")
    with pytest.raises(InvalidInput, match="more: Extra inputs are not permitted"):
        plan("a100_lora", data, None, search="key")


def test_a_sweep_without_a_best_trial_has_no_model() -> None:
    job = SimpleNamespace(name="sweep-1", properties={sweep.BEST: "sweep-1_3"}, studio_url="u")
    assert sweep.best_trial(job) == "sweep-1_3"
    job.properties = {}
    with pytest.raises(AzureFailed, match="without a best trial"):
        sweep.best_trial(job)


# A validation loss that is the lower the nearer the learning rate is to 1e-3, logged as the training code does.
TRIAL = """
import argparse, json, math, os, pathlib, urllib.request
parser = argparse.ArgumentParser()
for name in ("recipe", "data", "output", "adapter"):
    parser.add_argument("--" + name)
parser.add_argument("--set", action="append")
given = parser.parse_args()
rate = float(dict(pair.split("=") for pair in given.set)["optimizer.learning_rate"])
loss = abs(math.log10(rate) + 3)
api = os.environ["MLFLOW_TRACKING_URI"].replace("azureml://", "https://") + "/api/2.0/mlflow/runs/log-metric"
body = {"run_id": os.environ["MLFLOW_RUN_ID"], "key": "eval_loss", "value": loss, "timestamp": 1, "step": 1}
headers = {"authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "content-type": "application/json"}
urllib.request.urlopen(urllib.request.Request(api, json.dumps(body).encode(), headers))
metrics = json.loads(pathlib.Path("metrics.json").read_text())
pathlib.Path("outputs/training_metrics.json").write_text(json.dumps(metrics | {"eval_loss": loss}))
(pathlib.Path(given.output) / "config.json").write_text(str(rate))
"""


@pytest.mark.slow
def test_a_search_ends_with_its_best_trial_registered(
    azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(azure, tmp_path, TRIAL, monkeypatch)
    (tmp_path / "rate.yaml").write_text(
        "{trials: 4, at_once: 2, hours: 1, metric: eval_loss, stop_after_evaluations: 3, "
        "search: {optimizer.learning_rate: {from: 0.00001, to: 0.1}}}"
    )
    monkeypatch.setattr(sweep, "SWEEPS", tmp_path)
    parts = dict.fromkeys(("recipe_digest", "code_digest", "data_digest", "base_model_digest"), "")
    searched = Plan(recipe="cpu_demo", data_asset="azureml:tickets:1", base_model="hub", sweep="rate", **parts)
    done = train(azure.settings, searched)
    assert isinstance(done, records.Training)
    losses = {}
    for number in range(4):
        azure.ml.jobs.download(f"{searched.name}_{number}", download_path=str(tmp_path / str(number)))
        found = next((tmp_path / str(number)).rglob("training_metrics.json"))
        losses[f"{searched.name}_{number}"] = json.loads(found.read_text())["eval_loss"]
    assert len(set(losses.values())) == 4
    assert done.job_name == min(losses, key=lambda name: losses[name])
    model = register.register_job(azure.settings, done)
    assert model.lineage.job == done.job_name
    again = train(azure.settings, searched)
    assert isinstance(again, records.Training)
    assert (again.attached, again.job_name) == (True, done.job_name)
