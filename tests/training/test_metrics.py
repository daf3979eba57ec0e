"""What a run reports is complete and finite, and a tracking server that fails does not cost the run."""

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from training.errors import TrainingFailed
from training.metrics import Progress, Tracker, TrainingMetrics, flatten

SOUND = {
    "loss": [{"step": 1, "loss": 2.0}],
    "eval_loss": 1.0,
    "tokens_per_second": 300.0,
    "train_seconds": 2.0,
    "eval_seconds": 0.5,
    "trained_tokens": 600,
    "peak_memory_mb": 100,
    "model_digest": "a",
    "base_model_digest": "b",
    "steps": 1,
}


@pytest.mark.parametrize(
    "change",
    [
        {"eval_loss": math.nan},
        {"loss": []},
        {"loss": [{"step": 1, "loss": math.inf}]},
        {"trained_tokens": 0},
        {"more": 1},
    ],
    ids=str,
)
def test_missing_and_endless_numbers_are_no_metrics(change: dict[str, object]) -> None:
    TrainingMetrics.model_validate(SOUND)
    with pytest.raises(ValidationError):
        TrainingMetrics.model_validate(SOUND | change)


def test_the_file_is_written_whole_under_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    TrainingMetrics.model_validate(SOUND).write()
    assert json.loads((tmp_path / "outputs" / "training_metrics.json").read_text()) == SOUND
    assert [p.name for p in (tmp_path / "outputs").iterdir()] == ["training_metrics.json"]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run(loss: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    progress = Progress(Tracker({}))
    progress.step(1, 10, {"loss": 2.0}, 100)
    progress.step(1, 10, {"train_runtime": 1.0}, 100)
    with pytest.raises(TrainingFailed, match=f"loss became {loss} at step 2"):
        progress.step(2, 10, {"loss": loss}, 200)
    assert [point.step for point in progress.loss] == [1]


def test_flatten_names_parameters_by_their_path() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": [1, 2]}) == {"a.b": 1, "a.c.d": None, "e": "[1, 2]"}


@pytest.mark.slow
def test_mlflow_gets_parameters_curve_and_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    import mlflow

    tracker = Tracker({"run.seed": 1})
    progress = Progress(tracker)
    for step in (1, 2, 3):
        progress.step(step, 3, {"loss": 3.0 - step}, 100 * step)
    tracker.finish("FINISHED")
    run = mlflow.search_runs(output_format="list")[0]
    assert run.data.params == {"run.seed": "1"}
    assert run.info.status == "FINISHED"
    curve = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in curve] == [(1, 2.0), (2, 1.0), (3, 0.0)]


@pytest.mark.slow
def test_a_tracking_server_that_is_gone_costs_one_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tracker({"run.seed": 1})
    tracker.log({"loss": 1.0}, 1)
    tracker.finish("FINISHED")
    assert capsys.readouterr().err.count("warning: MLflow could not be written to") == 1
