"""By which way a recipe is trained, and what each way asks of Azure: `route: job | registry | serverless`.

A route is a module of this folder with the functions of `Route`. `train`, `plan`, `cost` and `register` call them; what
comes after (deploy, evaluate, gate, rollout) sees the same records whatever the route was.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from scripts import records
from scripts.cost import estimate, prices
from scripts.errors import InvalidInput
from scripts.routes import job, registry, serverless
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

    from data.manifest import Dataset
    from scripts.sweep import Sweep
    from scripts.train import Plan

Tell = Callable[[str], None]


class Route(Protocol):
    """The functions of a route's module."""

    def check(self, path: Path, changes: Sequence[str] = ()) -> None:
        """Judge a recipe, with some of its values changed, before anything is paid for. Raises InvalidInput."""

    def parts(self, recipe: str, content: dict[str, Any], dataset: "Dataset", tried: "Sweep | None") -> dict[str, Any]:
        """Fields of the plan that the route knows best: `code_digest`, `base_model`, `scale`, `checkpoints`, `load`.

        `content` is that of a recipe which `check` found good.
        """

    def where(self, settings: Settings) -> str:
        """The size of the instances that train, or the service that does, for the record and the bill."""

    def ready(self, settings: Settings, ml: "MLClient", work: "Plan", tell: Tell) -> "Plan":
        """The plan with what only Azure knows filled in (`latest` becomes a version), before the job is looked for.

        Raises InvalidInput or Refused for what Azure would refuse later, AzureFailed. Makes nothing.
        """

    def forecast(
        self, settings: Settings, work: "Plan", table: prices.Table, *, ml: "MLClient | None"
    ) -> estimate.Estimate:
        """What it will cost. Without `ml` nothing is asked of Azure."""

    def entity(self, ml: "MLClient", settings: Settings, work: "Plan", name: str, tags: Mapping[str, str]) -> "Job":
        """The job to submit under `name`; called once nothing speaks against it, so it may make what the job needs."""

    def why(self, ml: "MLClient", name: str) -> str:
        """Why the job failed, where its log does not end with that; else "". Raises AzureFailed."""

    def measured(self, settings: Settings, ml: "MLClient", work: "Plan", name: str) -> records.TrainingMetrics:
        """What the completed job measured. Raises InvalidInput when that is nothing."""

    def settle(
        self, ml: "MLClient", settings: Settings, work: "Plan", job: "Job", metrics: records.TrainingMetrics
    ) -> records.Paid:
        """What the completed job did cost."""

    def output(self, name: str) -> str:
        """Where the completed job left its model, as `register` wants it."""

    def register(self, settings: Settings, training: records.Training) -> records.Model:
        """A model version of what the job left, with the digests of all it was made from."""


ROUTES: dict[str, Route] = {"job": job, "registry": registry, "serverless": serverless}
DEFAULT = "job"


def named(route: str) -> Route:
    """Raises InvalidInput for a route that there is not."""
    if route not in ROUTES:
        near = difflib.get_close_matches(route, ROUTES, n=1, cutoff=0)
        raise InvalidInput(f"There is no route {route[:40]!r}; the nearest is {near[0]!r} (of {', '.join(ROUTES)}).")
    return ROUTES[route]


def of_recipe(path: Path) -> str:
    """The route that a recipe names. What is no recipe at all takes the default, whose check says what is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return DEFAULT
    route = content.get("route", DEFAULT) if isinstance(content, dict) else DEFAULT
    try:
        named(str(route))
    except InvalidInput as error:
        raise InvalidInput(f"Recipe {path} has a wrong value at 'route': {error}") from None
    return str(route)
