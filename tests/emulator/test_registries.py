"""The registry's data plane through the unmodified SDK, and what a pipeline's inputs are held against."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from emulator import pipeline_rules, pipelines, registries
from emulator.errors import ArmError
from emulator.pipeline_steps import NEEDS, STEPS, Work, validate

PHI = "Phi-3-mini-4k-instruct"
COMPONENT = "chat_completion_pipeline"
INPUTS = registries.catalogue()["components"][COMPONENT]["inputs"]


@pytest.fixture(scope="module")
def registry(credential: Any) -> Any:
    from azure.ai.ml import MLClient

    return MLClient(credential, registry_name="azureml")


def test_models_are_listed_and_got_by_version_and_by_label(registry: Any) -> None:
    assert {"Phi-4-mini-instruct", PHI, "SmolLM2-135M-Instruct"} <= {each.name for each in registry.models.list()}
    assert [each.version for each in registry.models.list(name=PHI)] == ["15", "14"]
    newest = registry.models.get(PHI, label="latest")
    assert newest.id == f"azureml://registries/azureml/models/{PHI}/versions/15"
    assert newest.type == "mlflow_model"
    assert "Standard_NC24ads_A100_v4" in ast.literal_eval(newest.tags["finetune_compute_allow_list"])
    assert ast.literal_eval(newest.tags["model_specific_defaults"])["deepspeed_stage"] == 2
    assert newest.tags["FinetuneRetirementDate"] == "2025-08-30"
    assert registry.models.get(PHI, version="14").version == "14"


def test_components_come_with_their_inputs(registry: Any) -> None:
    found = registry.components.get(COMPONENT, label="latest")
    assert (found.version, found.type) == ("0.0.82", "pipeline")
    assert set(found.inputs) == set(INPUTS)
    assert set(found.outputs) == {"pytorch_model_folder", "mlflow_model_folder"}
    assert registry.components.get(COMPONENT, version="0.0.81").version == "0.0.81"


def test_what_the_registry_does_not_have_is_404_and_nothing_can_be_written(registry: Any, credential: Any) -> None:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Model
    from azure.core.exceptions import HttpResponseError

    for ask in (
        lambda: registry.models.get("Phi-9", version="1"),
        lambda: registry.models.get("Phi-9", label="latest"),
        lambda: registry.models.get(PHI, version="99"),
        lambda: registry.components.get("text_generation_pipeline", version="1"),
    ):
        with pytest.raises(HttpResponseError) as raised:  # by its label it is no ResourceNotFoundError
            ask()
        assert raised.value.status_code == 404
    with pytest.raises(HttpResponseError):
        MLClient(credential, registry_name="nobodys").models.get(PHI, label="latest")
    with pytest.raises(HttpResponseError):
        registry.models.create_or_update(Model(name="mine", version="1", path="azureml://x", type="custom_model"))


def given(**values: object) -> dict[str, dict[str, str]]:
    return {name: {"job_input_type": "literal", "value": str(value)} for name, value in values.items()}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_train_epoch": 1}, "no input 'num_train_epoch'"),
        ({"num_train_epochs": 0}, "at least 1"),
        ({"num_train_epochs": "one"}, "of type integer"),
        ({"apply_lora": "True"}, "one of true, false"),
        ({"precision": 8}, "one of 32, 16"),
    ],
)
def test_a_wrong_input_is_refused_by_name(values: dict[str, object], said: str) -> None:
    with pytest.raises(ArmError, match=said):
        pipeline_rules.check_inputs(COMPONENT, INPUTS, given(**values))


def test_an_input_without_a_default_is_required() -> None:
    with pytest.raises(ArmError, match="Required input 'needed'"):
        pipeline_rules.check_inputs("c", {"needed": {"type": "string"}}, {})
    pipeline_rules.check_inputs("c", {"needed": {"type": "string", "optional": True}}, {})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "phi3"}))
    return tmp_path


def test_the_trainers_recipe_is_made_of_the_pipelines_parameters(base: Path) -> None:
    from training.recipe import Recipe

    asked = given(
        num_train_epochs=2, per_device_train_batch_size=4, gradient_accumulation_steps=2, learning_rate=1e-3,
        lr_scheduler_type="cosine", warmup_steps=5, apply_lora="true", lora_r=4, lora_alpha=8, precision=16, seed=7,
    )  # fmt: skip
    pipeline_rules.check_inputs(COMPONENT, INPUTS, asked)
    recipe = Recipe.model_validate(pipeline_rules.recipe(pipeline_rules.values(INPUTS, asked), 80, base))
    assert recipe.problem() is None
    assert recipe.lora is not None
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.targets[0]) == (4, 8, "qkv_proj")
    assert (recipe.run.epochs, recipe.run.max_steps, recipe.run.batch_size, recipe.run.seed) == (2, None, 4, 7)
    assert (recipe.optimizer.learning_rate, recipe.optimizer.schedule) == (1e-3, "cosine")
    assert recipe.optimizer.warmup_share == 5 / 20
    assert recipe.base_model.dtype == "bfloat16"
    limited = pipeline_rules.values(INPUTS, given(max_steps=3))
    plain = Recipe.model_validate(pipeline_rules.recipe(limited, 80, base))
    assert (plain.run.epochs, plain.run.max_steps, plain.lora) == (None, 3, None)


@pytest.mark.parametrize(
    "values", [{"lr_scheduler_type": "polynomial"}, {"apply_lora": "true", "merge_lora_weights": "false"}]
)
def test_what_the_trainer_cannot_do_is_refused(base: Path, values: dict[str, object]) -> None:
    with pytest.raises(ArmError):
        pipeline_rules.recipe(pipeline_rules.values(INPUTS, given(**values)), 80, base)


def validated(size: str, model: str = PHI, **values: object) -> None:
    """The pipeline's own first step, on a cluster of this size."""
    cluster = {"properties": {"properties": {"vmSize": size}}}
    uri = f"azureml://registries/azureml/models/{model}/versions/{'15' if model == PHI else '1'}"
    asked = {"mlflow_model_path": uri, "train_file_path": "azureml://x", **{k: str(v) for k, v in values.items()}}
    inputs = pipeline_rules.values(INPUTS, given(**asked))
    nothing: Any = None
    validate(Work(nothing, {}, inputs, cluster, {}), nothing)


def test_the_first_step_fails_for_what_the_gpus_could_not_do() -> None:
    validated("Standard_NC24ads_A100_v4")
    validated("Standard_NC40ads_H100_v5", "SmolLM2-135M-Instruct")  # it has no list
    with pytest.raises(ArmError, match="NC40ads_H100_v5 is not in the allow-listed computes"):
        validated("Standard_NC40ads_H100_v5")
    with pytest.raises(ArmError, match="is 2, and Standard_NC24ads_A100_v4 has 1"):
        validated("Standard_NC24ads_A100_v4", number_of_gpu_to_use_finetuning=2)
    with pytest.raises(ArmError, match="train_file_path"):
        validated("Standard_NC24ads_A100_v4", train_file_path="")


def test_a_pipeline_of_a_component_that_is_not_there_is_refused() -> None:
    nothing: Any = None
    for properties, said in (
        ({"jobs": {}}, "of one node"),
        ({"jobs": {"a": {"componentId": "azureml://registries/azureml/components/none/versions/1"}}}, "'none:1'"),
        ({"jobs": {"a": {"componentId": "azureml:mine:1"}}}, "none of the components of registry"),
        (
            {"jobs": {"a": {"componentId": f"azureml://registries/mine/components/{COMPONENT}/versions/1"}}},
            "none of the",
        ),
    ):
        with pytest.raises(ArmError, match=said):
            pipelines.check(nothing, properties)


def test_each_step_comes_after_what_it_needs() -> None:
    steps = registries.catalogue()["components"][COMPONENT]["steps"]
    assert set(steps) == set(STEPS) == set(NEEDS)
    for number, name in enumerate(steps):
        assert set(NEEDS[name]) <= set(steps[:number])
