"""The pipeline of `route: registry` as it is submitted: one node, the component, on our cluster, with our data."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scripts import azure_ml
from scripts.provision import place, workplace
from scripts.routes import recipes, registry_asked
from scripts.routes.registry_recipe import Recipe
from scripts.settings import Settings
from scripts.training_job import CODE

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

    from scripts.train import Plan

# The pipeline's outputs, and those of the component that go there. `trained_model` is the documents' own, which Azure
# serves without code; our serving code loads the folder of the other one: in MLflow's form a model and its tokenizer
# are apart.
SERVED, NO_CODE = "pytorch_model", "trained_model"
OUTPUTS = {NO_CODE: "mlflow_model_folder", SERVED: "pytorch_model_folder"}
STEPS = ("compute_model_import", "compute_preprocess", "compute_finetune", "compute_model_evaluation")


def entity(ml: "MLClient", settings: Settings, work: "Plan", name: str, tags: Mapping[str, str]) -> "Job":
    """The pipeline of one node, the component. A cluster that is missing is made first."""
    from azure.ai.ml import Input
    from azure.ai.ml.dsl import pipeline

    settled = registry_asked.Settled.model_validate(work.settled)
    asked = recipes.load(Recipe, CODE / "recipes" / f"{work.recipe}.yaml")
    component = registry_asked.component(asked, settled.component.rpartition("/versions/")[2])
    _make_cluster(settings, ml)
    folder = _data_folder(ml, work.data_asset)
    inputs: dict[str, Any] = {
        "mlflow_model_path": Input(type="mlflow_model", path=settled.model),
        **{
            f"{split}_file_path": Input(type="uri_file", path=f"{folder}/{split}.jsonl")
            for split in ("train", "validation")
        },
        **dict.fromkeys(STEPS, settings.compute.name),
        **settled.parameters,
    }

    @pipeline(name=name)
    def create_pipeline() -> dict[str, Any]:
        node = component(**inputs)
        return {output: getattr(node.outputs, source) for output, source in OUTPUTS.items()}

    job: Job = create_pipeline()
    job.name, job.display_name = name, settled.display_name
    job.experiment_name, job.tags = settings.experiment, dict(tags)
    job.settings.force_rerun = asked.force_rerun
    job.settings.continue_on_step_failure = False
    return job


def _make_cluster(settings: Settings, ml: "MLClient") -> None:
    cluster = workplace.cluster(place.Place(settings))
    what = f"Making cluster {settings.compute.name}"
    with azure_ml.explained(what), azure_ml.waiting(what):
        if cluster.found() is None:
            cluster.create()
    registry_asked.cluster(settings, ml)


def _data_folder(ml: "MLClient", asset: str) -> str:
    """Where the files of the data set lie: the component takes files, and our data set is a folder of them."""
    _, name, version = asset.split(":")
    with azure_ml.explained(f"Reading data set {asset}"):
        return str(ml.data.get(name, version).path).rstrip("/")
