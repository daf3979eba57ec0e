"""Recipes of managed routes: which route, which keys, what is wrong with one in a sentence."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from azure.core.exceptions import HttpResponseError
from hypothesis import given
from hypothesis import strategies as st

from data.manifest import Dataset
from emulator.registries import catalogue
from scripts import retired, routes, settings, train
from scripts.doctor import files
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.routes import recipes, registry, registry_asked, registry_rules, tracked
from scripts.routes.registry_recipe import Optimisation, Recipe, Training

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "training/recipes").glob("*.yaml"))
DATASET = Dataset.model_validate(json.loads((ROOT / "tests/scripts/fixtures/report/promoted/dataset.json").read_text()))
PHI4 = ROOT / "training/recipes/registry_phi4_mini.yaml"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def changed(folder: Path, **changes: Any) -> Path:
    """The shipped recipe with some values at "part.key" changed."""
    content = yaml.safe_load(PHI4.read_text()) | {"name": "mine"}
    for name, value in changes.items():
        *parts, last = name.split("__")
        place = content
        for part in parts:
            place = place[part]
        place[last] = value
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("path", [path for path in RECIPES if routes.of_recipe(path) != "job"], ids=lambda p: p.stem)
def test_the_recipes_of_the_repository_are_sound(path: Path) -> None:
    routes.named(routes.of_recipe(path)).check(path)


def test_a_recipe_without_a_route_is_a_job(tmp_path: Path) -> None:
    text = (ROOT / "training/recipes/cpu_demo.yaml").read_text()
    assert routes.of_recipe(ROOT / "training/recipes/cpu_demo.yaml") == "job"
    path = tmp_path / "cpu_demo.yaml"
    path.write_text(f"route: job\n{text}")
    assert routes.of_recipe(path) == "job"
    routes.named("job").check(path)
    path.write_text(f"route: registri\n{text}")
    with pytest.raises(InvalidInput, match=r"'route': There is no route 'registri'; the nearest is 'registry'"):
        routes.of_recipe(path)
    assert routes.of_recipe(tmp_path / "none.yaml") == "job"


def test_the_documents_parameters_are_the_shipped_ones() -> None:
    asked = recipes.load(Recipe, PHI4)
    assert asked.parameters() == {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "learning_rate": 5e-6,
        "lr_scheduler_type": "cosine",
        "apply_lora": "true",
        "apply_deepspeed": "true",
        "deepspeed_stage": 2,
        "num_nodes_finetune": 1,
    }
    assert asked.force_rerun


def test_every_parameter_of_the_component_is_typed_and_no_other() -> None:
    inputs = catalogue()["components"]["chat_completion_pipeline"]["inputs"]
    ours = {*Training.model_fields, *Optimisation.model_fields}
    assert ours <= set(inputs)
    set_by_us = {"task_name", "trust_remote_code", "huggingface_id"}  # the route's own, never a recipe's
    rest = set(inputs) - ours - set_by_us
    given_otherwise = ("compute_", "instance_type_", "evaluation_config", "deepspeed")
    assert all(name.endswith("_path") or name.startswith(given_otherwise) for name in rest), rest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training__num_train_epoch": 3}, "'training.num_train_epoch'; the nearest known key is 'num_train_epochs'"),
        ({"optimisation__lora_rank": 3}, "unknown key 'optimisation.lora_rank'; the nearest known key is 'lora_r'"),
        ({"modell": 1}, "unknown key 'modell'"),
        ({"training__num_train_epochs": 0}, "wrong value at 'training.num_train_epochs'"),
        ({"training__num_train_epochs": "3"}, "wrong value at 'training.num_train_epochs'"),
        ({"training__learning_rate": float("nan")}, "wrong value at 'training.learning_rate'"),
        ({"training__evaluation_strategy": "disable"}, "wrong value at 'training.evaluation_strategy'"),
        ({"optimisation__deepspeed_stage": 1}, "wrong value at 'optimisation.deepspeed_stage'"),
        ({"optimisation__merge_lora_weights": False}, "wrong value at 'optimisation.merge_lora_weights'"),
        ({"component__name": "text_generation_pipeline"}, "wrong value at 'component.name'"),
        ({"name": "other"}, "has the name 'other'"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)  # fmt: skip
def test_what_is_wrong_with_a_recipe_is_one_sentence(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        registry.check(changed(tmp_path, **changes))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_retired_model_is_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match=r"Phi-3-mini-4k-instruct is retired .* since 2025-08-30 .*: use Phi-4-mini-instruct"
    ):
        registry.check(changed(tmp_path, base_model__source="Phi-3-mini-4k-instruct"))
    with pytest.raises(Refused, match=r"Standard_NC6s_v3 is retired .* use Standard_NC24ads_A100_v4"):
        retired.check_size("compute.size", "Standard_NC6s_v3")
    with pytest.raises(Refused, match="cannot be fine-tuned since 2025-08-30"):
        retired.check_tags("Phi-9", {retired.TAG: "2025-08-30"})
    retired.check_tags("Phi-9", {retired.TAG: "2999-01-01"})
    retired.check_tags("Phi-9", {})


def test_doctor_judges_the_recipe_of_a_managed_route(tmp_path: Path) -> None:
    files._recipe(changed(tmp_path))
    with pytest.raises(Refused, match="Phi-3-mini-4k-instruct is retired"):
        files._recipe(changed(tmp_path, base_model__source="Phi-3-mini-4k-instruct"))
    files._recipe(ROOT / "training/recipes/a100_lora.yaml")


def cluster(state: str) -> Any:
    found = SimpleNamespace(provisioning_state=state, size="Standard_NC24ads_A100_v4", max_instances=3)
    return SimpleNamespace(compute=SimpleNamespace(get=lambda _name: found))


def test_a_cluster_whose_provisioning_failed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "0" * 8)
    values = settings.load(Path("scripts/environments/demo.yaml"))
    assert registry_asked.cluster(values, cluster("Succeeded")) == ("Standard_NC24ads_A100_v4", 3)
    with pytest.raises(
        AzureFailed, match="provisioning of cluster gpu-nc24ads-a100 failed: delete it, or name another"
    ):
        registry_asked.cluster(values, cluster("Failed"))


def refused(status: int) -> Any:
    def list_sizes(**_: str) -> None:
        raise HttpResponseError(response=cast(Any, SimpleNamespace(status_code=status, reason="no", text=lambda: "")))

    return SimpleNamespace(compute=SimpleNamespace(list_sizes=list_sizes))


def test_who_may_not_read_the_sizes_is_helped_by_our_own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "0" * 8)
    values, told = settings.load(Path("scripts/environments/demo.yaml")), list[str]()
    known = registry_asked.sizes(values, refused(403), told.append)
    assert registry_rules.gpus("Standard_NC96ads_A100_v4", known, None) == 4
    assert "our own table" in told[0]
    with pytest.raises(AzureFailed, match="Reading the sizes of eastus2"):
        registry_asked.sizes(values, refused(500), told.append)


@given(st.floats() | st.none())
def test_what_was_not_measured_is_no_number(value: float | None) -> None:
    values = {} if value is None else {"eval_loss": value}
    if value is not None and math.isfinite(value):
        assert tracked.number("j", values, ("eval_loss",)) == value
    else:
        with pytest.raises(InvalidInput, match="its model cannot be registered"):
            tracked.number("j", values, ("eval_loss",))


@given(st.integers(1, 9), st.integers(1, 8), st.integers(1, 4), st.integers(1, 8), st.integers(1, 100))
def test_the_work_is_all_epochs_or_as_many_steps(epochs: int, batch: int, nodes: int, gpus: int, steps: int) -> None:
    asked, tokens, rows = recipes.load(Recipe, PHI4), 1000, 10
    shape = {"per_device_train_batch_size": batch, "num_nodes_finetune": nodes, "num_train_epochs": epochs}
    assert registry.load("r", asked, shape, tokens, rows, gpus).tokens == epochs * tokens
    limited = registry.load("r", asked, {**shape, "max_steps": steps}, tokens, rows, gpus)
    assert limited.tokens == steps * batch * nodes * gpus * 100
    assert (limited.instances, limited.processes) == (nodes, gpus)


def test_a_plan_says_its_route_and_is_named_by_what_the_recipe_asks_for() -> None:
    work = train.plan("registry_phi4_mini", DATASET, None)
    assert (work.route, work.base) == ("registry", "Phi-4-mini-instruct latest")
    assert work.base_model == "azureml://registries/azureml/models/Phi-4-mini-instruct/labels/latest"
    assert work.load is not None
    assert work.load.tokens == 3 * DATASET.files["train"].tokens
    assert work.load.base == "microsoft/Phi-4-mini-instruct"


def test_a_search_and_a_base_of_ones_own_are_for_our_own_code() -> None:
    with pytest.raises(InvalidInput, match="--sweep is for recipes of route job"):
        train.plan("registry_phi4_mini", DATASET, None, search="lora")
