"""What the service logged while it trained: metrics of a job's runs by MLflow's own API, without importing MLflow."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from scripts import azure_ml
from scripts.errors import AzureFailed, InvalidInput

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

SCOPE = "https://management.azure.com/.default"
SECONDS = 60.0


class Point(NamedTuple):
    step: int
    value: float


class Tracked:
    """The runs of one workspace. Raises AzureFailed when they cannot be read."""

    def __init__(self, ml: "MLClient") -> None:
        import httpx

        workspace = ml.workspaces.get(str(ml.workspace_name))
        token = azure_ml.credential().get_token(SCOPE).token
        self._url = str(workspace.mlflow_tracking_uri).replace("azureml://", "https://", 1)
        self._http = httpx.Client(timeout=SECONDS, headers={"Authorization": f"Bearer {token}"})

    def of_job(self, job: str) -> list[str]:
        """A job's run and those of all its steps."""
        experiment = self._ask("GET", "runs/get", params={"run_id": job})["run"]["info"]["experiment_id"]
        asked = {"experiment_ids": [experiment], "filter": f"tags.mlflow.rootRunId = '{job}'", "max_results": 100}
        found = self._ask("POST", "runs/search", json=asked).get("runs", [])
        return [job, *(str(run["info"]["run_id"]) for run in found if run["info"]["run_id"] != job)]

    def history(self, run: str, metric: str) -> list[Point]:
        """Every value of a metric, by step; [] when the run never logged it."""
        asked = {"run_id": run, "metric_key": metric, "max_results": "25000"}
        found = self._ask("GET", "metrics/get-history", params=asked).get("metrics", [])
        return sorted(Point(int(each.get("step", 0)), float(each["value"])) for each in found)

    def last(self, run: str) -> dict[str, float]:
        """The last value of every metric of a run."""
        data = self._ask("GET", "runs/get", params={"run_id": run})["run"].get("data", {})
        return {str(each["key"]): float(each["value"]) for each in data.get("metrics", [])}

    def _ask(self, method: str, call: str, **arguments: Any) -> dict[str, Any]:
        import httpx

        try:
            answer: httpx.Response = self._http.request(method, f"{self._url}/api/2.0/mlflow/{call}", **arguments)
        except httpx.HTTPError as error:
            raise AzureFailed(f"The workspace's runs cannot be read: {type(error).__name__}.") from error
        if answer.status_code != 200:
            raise AzureFailed(f"The workspace's runs cannot be read: {call} was answered {answer.status_code}.")
        return dict(answer.json())


def number(job: str, values: dict[str, float], names: Iterable[str]) -> float:
    """The first of `names` that was logged, if it is a number. Raises InvalidInput: no evidence is no model."""
    found = next((values[name] for name in names if name in values), None)
    if found is None or not math.isfinite(found):
        raise InvalidInput(
            f"Training job {job} logged {'no' if found is None else f'{found} as'} {next(iter(names))}: "
            "its model cannot be registered."
        )
    return found
