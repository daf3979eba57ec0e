"""What the service tells of a fine-tuning job: the metrics of its run, read over MLflow's own API."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx

from scripts import azure_ml, records
from scripts.errors import AzureFailed, InvalidInput
from scripts.settings import Settings

SCOPE = "https://management.azure.com/.default"
# What we call it, and what the service and the libraries below it may call it.
NAMES = {
    "loss": ("train_loss", "loss"),
    "eval_loss": ("valid_loss", "full_valid_loss", "eval_loss"),
    "token_accuracy": ("valid_mean_token_accuracy", "full_valid_mean_token_accuracy", "eval_mean_token_accuracy"),
}
Ask = Callable[[str, Mapping[str, str]], dict[str, Any]]


def workspace_id(settings: Settings) -> str:
    return (
        f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{settings.workspace}"
    )


def api(settings: Settings) -> Ask:
    """Asks the workspace's MLflow. Raises AzureFailed."""
    base = f"https://{settings.location}.api.azureml.ms/mlflow/v2.0{workspace_id(settings)}/api/2.0/mlflow"
    token = azure_ml.credential().get_token(SCOPE).token

    def ask(path: str, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            answer = httpx.get(
                f"{base}/{path}", params=dict(query), headers={"Authorization": f"Bearer {token}"}, timeout=60
            )
            answer.raise_for_status()
            return dict(answer.json())
        except (httpx.HTTPError, ValueError) as error:
            raise AzureFailed(f"The metrics of the job could not be read ({type(error).__name__}).") from error

    return ask


def read(ask: Ask, job: str, digest: str, base_digest: str, seconds: float | None) -> records.TrainingMetrics:
    """The job's metrics; what the service does not tell is None. Raises InvalidInput when it measured no losses."""
    told = {each["key"] for each in ask("runs/get", {"run_id": job})["run"]["data"].get("metrics") or []}

    def history(name: str) -> list[records.LossPoint]:
        found = next((each for each in NAMES[name] if each in told), None)
        if found is None:
            return []
        points = ask("metrics/get-history", {"run_id": job, "metric_key": found}).get("metrics") or []
        try:
            return [records.LossPoint(step=int(each.get("step", 0)), loss=float(each["value"])) for each in points]
        except (KeyError, TypeError, ValueError):
            raise InvalidInput(f"Job {job} has a metric {found} that is no number: nothing can be trusted.") from None

    loss, judged, accuracy = (history(name) for name in ("loss", "eval_loss", "token_accuracy"))
    if not loss or not judged:
        lacks = "training" if not loss else "validation"
        raise InvalidInput(f"Job {job} tells no {lacks} loss: its model cannot be registered.")
    loss.sort(key=lambda point: point.step)
    return records.TrainingMetrics(
        loss=loss,
        eval_loss=judged[-1].loss,
        token_accuracy=accuracy[-1].loss if accuracy else None,
        steps=loss[-1].step,
        model_digest=digest,
        base_model_digest=base_digest,
        tokens_per_second=None,
        train_seconds=seconds,
        eval_seconds=None,
        trained_tokens=None,
        peak_memory_mb=None,
        device="the service's",
    )
