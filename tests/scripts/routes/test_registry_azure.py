"""`route: registry` against the local Azure ML with a tiny model behind the catalogue: from the recipe to an answer."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.manifest import Dataset
from emulator.command import command_env
from emulator.context import Settings as EmulatorSettings
from emulator.launcher import Options, start_serve, stop_serve
from emulator.processes import MARK
from eval.promptflow_home import HOME
from scripts import dataset as uploads
from scripts import deploy, records, routes, train
from scripts import settings as settings_of
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.routes import registry_pipeline
from scripts.settings import Settings
from tests.emulator import azure_types
from tests.workflows.tiny import make

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
MODEL = "SmolLM2-135M-Instruct"
RECIPE: dict[str, Any] = {
    "route": "registry",
    "name": "tiny",
    "registry": "azureml",
    "base_model": {"source": MODEL, "revision": "latest"},
    "component": {"name": "chat_completion_pipeline", "version": "latest"},
    "force_rerun": True,
    "training": {"max_steps": 60, "per_device_train_batch_size": 8, "learning_rate": 0.005, "seed": 1},
    "optimisation": {"apply_lora": False},
}


@dataclass(frozen=True)
class World:
    """A provisioned environment, the tiny data set in it, and a copy of what jobs are made of."""

    home: Path
    settings: Settings
    ml: Any
    data: Dataset
    told: list[str] = field(default_factory=list)

    def plan(self, **parts: dict[str, Any]) -> train.Plan:
        content = {**RECIPE, **{part: {**RECIPE[part], **changes} for part, changes in parts.items()}}
        Path("training/recipes/tiny.yaml").write_text(yaml.safe_dump(content))
        return train.plan("tiny", self.data, None)

    def train(self, **parts: dict[str, Any]) -> records.Training:
        self.told.clear()
        done = train.train(self.settings, self.plan(**parts), commit="c" * 40, tell=self.told.append)
        assert isinstance(done, records.Training)
        return done

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home / "requests.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    from scripts import azure_ml
    from scripts.provision import provision

    folder = tmp_path_factory.mktemp("registry")
    for name in ("scripts", "serving", "eval"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "training", folder / "training", ignore=shutil.ignore_patterns("__pycache__"))
    make.base_model(folder / "base")
    before, where, home = dict(os.environ), Path.cwd(), folder / "azure"
    os.environ["EMULATOR_SERVICE_MODEL"] = str(folder / "base")
    serve = start_serve(Options(home, {}, operation_seconds=0.05), detached=False)
    try:
        variables = command_env(EmulatorSettings.load(home))
        variables.pop(MARK)  # or the local Azure ML would sweep us away when it stops
        os.environ.clear()
        os.environ.update(variables | {HOME: before[HOME]})
        os.chdir(folder)
        values = settings_of.load(ROOT / "scripts/environments/demo.yaml")
        provision(values)
        yield World(home, values, azure_ml.client(values), uploaded(values, folder / "data"))
    finally:
        os.chdir(where)
        os.environ.clear()
        os.environ.update(before)
        stop_serve(serve, home)


def uploaded(values: Settings, folder: Path, version: str = "1", last: str = "") -> Dataset:
    """`last`: one more line of the training file."""
    folder.mkdir()
    rows = {"train": range(1000, 1096), "validation": range(2000, 2008)}
    files: dict[str, dict[str, Any]] = {}
    for split, numbers in rows.items():
        path = folder / f"{split}.jsonl"
        path.write_text(make.jsonl([{"messages": make.row(number)["messages"]} for number in numbers]))
        if split == "train":
            path.write_text(path.read_text() + last)
        files[split] = {"path": path.name, "sha256": split[0].replace("t", "a").replace("v", "b") * 64}
        files[split] |= {"rows": len(numbers), "tokens": 60 * len(numbers)}
    made = Dataset.model_validate(
        {
            **{
                "name": "tickets",
                "version": version,
                "digest": version[0].replace("1", "d") * 64,
                "created_at": "2026-11-29T00:00:00Z",
            },
            **{"token_count": "approximate", "files": files, "checks": []},
        }
    )
    return uploads.upload(values, made, folder)


@pytest.fixture(scope="module")
def trained(world: World) -> records.Training:
    return world.train()


def test_a_trained_model_is_registered_and_answers(world: World, trained: records.Training) -> None:
    assert (trained.route, trained.status, trained.attached) == ("registry", "Completed", False)
    assert trained.base_model == f"azureml://registries/azureml/models/{MODEL}/versions/1"
    assert trained.metrics.loss[0].loss > 3 * trained.metrics.loss[-1].loss
    assert trained.metrics.steps == 60
    assert trained.cost is not None
    assert trained.cost.node_hours
    model = routes.named("registry").register(world.settings, trained)
    assert model.lineage == records.Lineage(
        data="d" * 64, code=trained.code_digest, recipe=trained.recipe.digest, job=trained.job_name, route="registry"
    )
    assert model.digest == trained.model_digest
    question = {"messages": make.row(1500)["messages"][:2], "max_tokens": 64, "temperature": 0}
    done = deploy.deploy(world.settings, model, "blue", [question], first=True)
    assert done.smoke.failures == 0
    answer = asked(world, question)
    assert json.loads(answer)["category"] == "defect"


def asked(world: World, body: dict[str, Any]) -> str:
    from scripts.endpoint import Endpoint, Requests

    with Requests(Endpoint(world.settings).scoring_uri()) as requests:
        return requests.ask(body)[1]


def test_the_pipeline_is_the_documents_own(world: World, trained: records.Training) -> None:
    job = world.ml.jobs.get(trained.job_name)
    assert job.display_name == f"{MODEL}-tickets-bs8-linear-nods-nolora-save_limit1-seqlen-1"
    assert job.tags["commit"] == "c" * 40
    assert job.tags["base_model"] == trained.base_model
    sent = next(
        each["request"]["properties"]
        for each in world.requests()
        if each["method"] == "PUT" and each["path"].endswith(f"/jobs/{trained.job_name}")
    )
    (node,) = sent["jobs"].values()
    assert node["componentId"] == "azureml://registries/azureml/components/chat_completion_pipeline/versions/0.0.82"
    assert sent["settings"]["force_rerun"] is True
    assert sent["settings"]["continue_on_step_failure"] is False
    assert sent["outputs"]["trained_model"]["jobOutputType"] == "mlflow_model"
    assert node["outputs"]["mlflow_model_folder"]["value"] == "${{parent.outputs.trained_model}}"
    literals = {name: value["value"] for name, value in node["inputs"].items() if "value" in value}
    assert literals["number_of_gpu_to_use_finetuning"] == "1"
    assert literals["apply_lora"] == "false"
    assert {literals[step] for step in registry_pipeline.STEPS} == {world.settings.compute.name}
    assert node["inputs"]["train_file_path"]["uri"].endswith("/train.jsonl")


def test_its_steps_are_runs_of_their_own(world: World, trained: records.Training) -> None:
    steps = list(world.ml.jobs.list(parent_job_name=trained.job_name))
    assert [each.display_name for each in steps] == [
        "ft_nlp_common_validation",
        "chat_completion_model_import",
        "chat_completion_datapreprocess",
        "chat_completion_finetune",
        "chat_completion_model_converter",
        "compute_metrics",
    ]
    assert {each.status for each in steps} == {"Completed"}
    assert not {each.name for each in steps} & {each.name for each in world.ml.jobs.list()}


def test_the_documents_output_can_be_registered_as_an_mlflow_model(world: World, trained: records.Training) -> None:
    from azure.ai.ml.entities import Model

    path = f"azureml://jobs/{trained.job_name}/outputs/trained_model"
    made = world.ml.models.create_or_update(Model(name="as-mlflow", path=path, type="mlflow_model"))
    assert made.type == "mlflow_model"


def test_the_same_recipe_attaches_and_another_one_does_not(world: World, trained: records.Training) -> None:
    again = world.train()
    assert (again.attached, again.job_name) == (True, trained.job_name)
    assert again.model_digest == trained.model_digest
    other = train.train(world.settings, world.plan(training={"seed": 2}), wait_seconds=0)
    assert isinstance(other, train.Waiting)
    assert other.job_name != trained.job_name
    world.ml.jobs.begin_cancel(other.job_name).result()


def test_what_azure_would_refuse_is_refused_before_anything_is_made(world: World) -> None:
    phi = {"base_model": {"source": "Phi-4-mini-instruct"}}
    before = len([each for each in world.requests() if each["method"] == "PUT"])
    for settings, parts, kind, said in (
        (sized(world, "Standard_NC40ads_H100_v5", "h100"), phi, Refused, "set compute.size to one of Standard_NC24"),
        (sized(world, "Standard_NC24r", "old"), {}, Refused, "Standard_NC24r is retired"),
        (sized(world, "Standard_E4s_v3", "cpu"), {}, InvalidInput, "has no GPU"),
        (sized(world, "Standard_NC24s_v9", "none"), {}, InvalidInput, "has no size"),
        (world.settings, {"base_model": {"source": "Phi-4-maxi"}}, InvalidInput, "azureml has no model Phi-4-maxi"),
        (world.settings, {"base_model": {"revision": "9"}}, InvalidInput, "with version 9"),
        (world.settings, {"component": {"version": "9"}}, InvalidInput, "no component chat_completion_pipeline"),
        (world.settings, {"optimisation": {"number_of_gpu_to_use_finetuning": 2}}, InvalidInput, "is 2, and"),
        (world.settings, {"optimisation": {"num_nodes_finetune": 2}}, InvalidInput, "and the cluster has at most 1"),
    ):  # fmt: skip
        with pytest.raises(kind) as raised:
            train.train(settings, world.plan(**parts))
        assert said in str(raised.value)
    assert len([each for each in world.requests() if each["method"] == "PUT"]) == before


def sized(world: World, size: str, name: str) -> Settings:
    compute = world.settings.compute.model_copy(update={"size": size, "name": name})
    return world.settings.model_copy(update={"compute": compute})


def test_a_step_that_fails_ends_the_pipeline_and_is_named(world: World, tmp_path: Path) -> None:
    world.plan()  # writes the recipe
    broken = uploaded(world.settings, tmp_path / "data", "2", last='{"messages": []}\n')
    with pytest.raises(AzureFailed) as raised:
        train.train(world.settings, train.plan("tiny", broken, None))
    step, line = "chat_completion_datapreprocess", make.TRAINING_ROWS + 1
    assert f"ended as Failed: {step}: train_file_path: line {line} has no 'messages'" in str(raised.value)
    name = next(iter(world.ml.jobs.list())).name
    steps = [(each.display_name, each.status) for each in world.ml.jobs.list(parent_job_name=name)]
    assert steps[-1] == (step, "Failed")  # nothing began after it
    assert world.ml.jobs.get(name).tags["reported"] == "true"


def test_a_cluster_that_is_missing_is_made_and_one_that_failed_is_told(world: World) -> None:
    named = sized(world, "Standard_NC48ads_A100_v4", "another-cluster")
    done = train.train(named, world.plan(optimisation={"apply_deepspeed": True}), wait_seconds=0)
    assert isinstance(done, train.Waiting)
    world.ml.jobs.begin_cancel(done.job_name).result()
    assert world.ml.compute.get("another-cluster").size == "Standard_NC48ads_A100_v4"
    sent = [each for each in world.requests() if each["path"].endswith(f"/jobs/{done.job_name}")][-1]
    assert sent["host"] == "management.azure.com"


def test_every_request_has_the_official_types(world: World, trained: records.Training) -> None:  # noqa: ARG001
    checked, problems = Counter[str](), Counter[str]()
    for each in world.requests():
        if (found := azure_types.deviations(each)) is not None:
            checked[each["path"].split("/")[9] if each["path"].count("/") > 8 else "workspace"] += 1
            said = "request.properties.properties.hash_version: 202208 is not StringType"  # the SDK's own
            problems.update(f"{each['method']} {each['path'][-60:]}: {one}" for one in found if one != said)
    assert checked["jobs"]
    assert not problems, "\n".join(f"{count} x {problem}" for problem, count in problems.most_common(40))
