"""Run history and MLflow: metrics and artifacts of a job land on the job's own run and can be read from outside."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.tracking import RUN_KEYS, rewrite_artifacts, translate

slow = pytest.mark.slow
API = "https://eastus2.api.azureml.ms"
TRAIN = """
import pathlib, mlflow, os
with mlflow.start_run() as run:
    print("attached to", run.info.run_id)
    for step in range(4):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"accuracy": 0.5, "f1": 0.25}, step=3, synchronous=False)
    mlflow.log_param("lr", 0.002)
    pathlib.Path("curve.txt").write_text("1 0.5")
    mlflow.log_artifact("curve.txt", "plots")
    mlflow.flush_async_logging()
    with mlflow.start_run(nested=True, run_name="fold") as fold:
        mlflow.log_metric("loss", 9.0)
"""
IDS = {"job-a": "0a", "job-b": "0b"}
BACK = {value: key for key, value in IDS.items()}
TEXTS = st.sampled_from(["job-a", "job-b", "other", "0c"])
VALUES = st.recursive(
    TEXTS | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*sorted(RUN_KEYS), "key", "name", "info"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_translation_there_and_back_changes_nothing(value: Any) -> None:
    assert translate(translate(value, IDS), BACK) == value


def test_only_run_ids_are_translated() -> None:
    request = {
        "run_id": "job-a",
        "run_ids": ["job-b", "other"],
        "params": [{"key": "name", "value": "job-a"}],
        "tags": [{"key": "mlflow.parentRunId", "value": "job-a"}],
        "filter": "tags.mlflow.parentRunId = 'job-a' and params.name = \"x\"",
        "nested": [{"info": {"run_uuid": "job-b"}}],
    }
    assert translate(request, IDS) == {
        "run_id": "0a",
        "run_ids": ["0b", "other"],
        "params": [{"key": "name", "value": "job-a"}],
        "tags": [{"key": "mlflow.parentRunId", "value": "0a"}],
        "filter": "tags.mlflow.parentRunId = '0a' and params.name = \"x\"",
        "nested": [{"info": {"run_uuid": "0b"}}],
    }


def test_artifact_uris_lead_into_the_workspace() -> None:
    answer = {"runs": [{"info": {"run_id": "job-a", "experiment_id": "7", "artifact_uri": "file:///elsewhere"}}]}
    rewrite_artifacts(answer, "azureml://host/mlflow/v2.0/ws")
    assert answer["runs"][0]["info"]["artifact_uri"] == (
        "azureml://host/mlflow/v2.0/ws/experiments/7/runs/job-a/artifacts"
    )


@pytest.fixture(scope="module")
def trained(ml_client: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a completed job that logged to MLflow."""
    from azure.ai.ml import Output, command
    from azure.ai.ml.entities import AmlCompute, Environment

    ml_client.compute.begin_create_or_update(AmlCompute(name="cpu-history", size="Standard_DS3_v2")).result()
    ml_client.environments.create_or_update(Environment(name="history", version="1", image="mcr.microsoft.com/any"))
    code = tmp_path_factory.mktemp("code")
    (code / "train.py").write_text(TRAIN)
    job = command(
        code=str(code),
        command="python train.py && echo done > ${{outputs.model}}/w.txt",
        environment="history:1",
        compute="cpu-history",
        outputs={"model": Output(type="uri_folder")},
        experiment_name="tuning",
        display_name="a run",
        tags={"digest": "abc"},
    )
    name = ml_client.jobs.create_or_update(job).name
    shown = io.StringIO()
    with redirect_stdout(shown):
        ml_client.jobs.stream(name)
    assert ml_client.jobs.get(name).status == "Completed", shown.getvalue()
    return str(name)


@pytest.fixture
def tracking_uri(ml_client: Any) -> str:
    return str(ml_client.workspaces.get(ml_client.workspace_name).mlflow_tracking_uri)


@pytest.fixture
def client(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """mlflow as a user outside has it. Not mlflow.set_tracking_uri: that would outlive the test."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    return mlflow.MlflowClient()


@slow
def test_what_a_job_logs_is_on_the_run_named_like_the_job(trained: str, client: Any) -> None:
    run = client.get_run(trained)
    assert (run.info.run_id, run.info.status, run.info.run_name) == (trained, "FINISHED", "a run")
    assert run.data.metrics == {"loss": 0.25, "accuracy": 0.5, "f1": 0.25}
    assert run.data.params == {"lr": "0.002"}
    history = client.get_metric_history(trained, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3), (3, 0.25)]
    experiment = client.get_experiment_by_name("tuning")
    assert run.info.experiment_id == experiment.experiment_id
    [child] = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{trained}'")
    assert (child.data.metrics, child.data.tags["mlflow.parentRunId"]) == ({"loss": 9.0}, trained)


@slow
def test_artifacts_of_a_run_are_listed_and_read_from_outside(trained: str, client: Any, tmp_path: Path) -> None:
    assert {"plots", "user_logs"} <= {item.path for item in client.list_artifacts(trained)}
    assert [item.path for item in client.list_artifacts(trained, "plots")] == ["plots/curve.txt"]
    got = client.download_artifacts(trained, "plots/curve.txt", str(tmp_path))
    assert Path(got).read_text() == "1 0.5"


OUTSIDE = """
import mlflow
mlflow.set_experiment("evaluation")
with mlflow.start_run() as run:
    mlflow.log_metric("exact_match", 0.7)
    mlflow.log_artifact("report.txt")
print(run.info.run_id)
"""


@slow
def test_a_run_from_outside_is_one_of_its_own(trained: str, client: Any, tracking_uri: str, tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text("fine")
    quiet = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_TRACKING_URI": tracking_uri}
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE], cwd=tmp_path, env={**os.environ, **quiet}, check=True, stdout=subprocess.PIPE
    )
    outside = done.stdout.decode().split()[-1]
    assert outside != trained
    found = client.get_run(outside)
    assert (found.data.metrics, found.info.status) == ({"exact_match": 0.7}, "FINISHED")
    assert [item.path for item in client.list_artifacts(outside)] == ["report.txt"]


@slow
def test_download_of_default_and_named_outputs(ml_client: Any, trained: str, tmp_path: Path) -> None:
    with redirect_stdout(io.StringIO()):
        ml_client.jobs.download(trained, download_path=tmp_path)
        ml_client.jobs.download(trained, download_path=tmp_path, output_name="model")
    assert (tmp_path / "named-outputs" / "model" / "w.txt").read_text() == "done\n"
    assert f"attached to {trained}" in (tmp_path / "artifacts" / "user_logs" / "std_log.txt").read_text()
    assert (tmp_path / "artifacts" / "plots" / "curve.txt").read_text() == "1 0.5"


def workspace_path(ml: Any) -> str:
    group = f"/subscriptions/{ml.subscription_id}/resourceGroups/{ml.resource_group_name}"
    return f"{group}/providers/Microsoft.MachineLearningServices/workspaces/{ml.workspace_name}"


@slow
def test_run_history_over_rest(ml_client: Any, credential: Any, trained: str) -> None:
    history = f"{API}/history/v1.0{workspace_path(ml_client)}"
    token = credential.get_token("https://management.azure.com/.default").token
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}) as client:
        details = client.get(f"{history}/runs/{trained}/details").json()
        assert (details["runId"], details["status"], details["error"]) == (trained, "Completed", None)
        assert details["tags"] == {"digest": "abc"}
        log = httpx.get(details["logFiles"]["user_logs/std_log.txt"])
        assert f"attached to {trained}" in log.text
        data = client.post(f"{history}/rundata", json={"runId": trained}).json()["runMetadata"]
        assert data["outputs"]["model"]["type"] == "UriFolder"
        asset = data["outputs"]["model"]["assetId"]
        resolve = f"{API}/data/v1.0{workspace_path(ml_client)}/dataversion/batchGetResolvedUris"
        uris = client.post(resolve, json={"values": [asset, "azureml://unknown"]}).json()["values"]
        assert list(uris) == [asset]
        assert uris[asset]["uri"].endswith(f"/datastores/workspaceblobstore/paths/azureml/{trained}/model/")
        missing = client.get(f"{history}/runs/nobody/details")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "UserError")
    assert httpx.get(f"{history}/runs/{trained}/details").status_code == 401
    discovered = httpx.get(f"{API}/discovery").json()
    assert discovered["history"] == API


@slow
def test_a_failed_job_closes_its_run_as_failed(ml_client: Any, trained: str, client: Any) -> None:
    from azure.ai.ml import command

    job = command(command="exit 1", environment="history:1", compute="cpu-history", experiment_name="tuning")
    name = ml_client.jobs.create_or_update(job).name
    deadline = time.monotonic() + 30
    while ml_client.jobs.get(name).status != "Failed":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.get_run(name).info.status == "FAILED"
    assert client.get_run(trained).info.status == "FINISHED"
