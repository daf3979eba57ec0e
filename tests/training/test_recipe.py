"""A recipe holds every parameter and nothing else, and says in one sentence what is wrong with it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.errors import TrainingError
from training.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
Content = dict[str, Any]
Write = Callable[[Content], Path]


# Those of other routes are judged by scripts/routes.
OURS = [path for path in sorted(RECIPES.glob("*.yaml")) if "\nroute: " not in path.read_text()]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_are_sound(path: Path) -> None:
    assert load_recipe(path).name == path.stem


def test_the_a100_recipe_pins_its_revision_and_names_fused_layers_and_stops() -> None:
    recipe = load_recipe(RECIPES / "a100_lora.yaml")
    assert len(recipe.base_model.revision or "") == 40
    assert recipe.lora is not None
    assert {"qkv_proj", "gate_up_proj"} <= set(recipe.lora.targets)
    assert 32007 in recipe.base_model.keep_eos_token_ids


def _paths(content: Content) -> list[tuple[str, ...]]:
    return [(a,) for a in content] + [(a, b) for a, part in content.items() if isinstance(part, dict) for b in part]


def test_no_key_is_optional(recipe_content: Content, write_recipe: Write) -> None:
    load_recipe(write_recipe(recipe_content))
    for path in _paths(recipe_content):
        part = recipe_content if len(path) == 1 else recipe_content[path[0]]
        value = part.pop(path[-1])
        with pytest.raises(TrainingError, match=f"lacks the key '{'.'.join(path)}'"):
            load_recipe(write_recipe(recipe_content))
        part[path[-1]] = value


def test_an_unknown_key_is_refused_with_the_nearest_known_one(recipe_content: Content, write_recipe: Write) -> None:
    recipe_content["optimizer"]["lerning_rate"] = 0.1
    with pytest.raises(TrainingError, match=r"unknown key 'optimizer\.lerning_rate'; .* 'learning_rate'"):
        load_recipe(write_recipe(recipe_content))
    del recipe_content["optimizer"]["lerning_rate"]
    recipe_content["lora"]["ranks"] = 4
    with pytest.raises(TrainingError, match=r"unknown key 'lora\.ranks'; .* 'rank'"):
        load_recipe(write_recipe(recipe_content))
    recipe_content["lora"]["ranks"] = recipe_content["lora"].pop("rank")  # misspelt, and so also missing
    with pytest.raises(TrainingError, match=r"unknown key 'lora\.ranks'; .* 'rank' \(1 more problem"):
        load_recipe(write_recipe(recipe_content))
    recipe_content["lora"]["rank"] = recipe_content["lora"].pop("ranks")
    recipe_content["lorra"] = {}
    with pytest.raises(TrainingError, match=r"unknown key 'lorra'; .* 'lora'"):
        load_recipe(write_recipe(recipe_content))


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("optimizer", "learning_rate", 0),
        ("optimizer", "learning_rate", float("nan")),
        ("optimizer", "learning_rate", "fast"),
        ("optimizer", "schedule", "zigzag"),
        ("run", "batch_size", 0),
        ("run", "batch_size", 1.5),
        ("run", "gradient_checkpointing", "yes please"),
        ("base_model", "dtype", "int4"),
        ("data", "over_length", "cut"),
    ],
)
def test_a_wrong_value_is_named(part: str, key: str, value: Any, recipe_content: Content, write_recipe: Write) -> None:
    recipe_content[part][key] = value
    with pytest.raises(TrainingError, match=rf"wrong value at '{part}\.{key}'") as caught:
        load_recipe(write_recipe(recipe_content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("epochs", "max_steps"), [(None, None), (1, 10)])
def test_the_length_of_a_run_is_said_exactly_once(
    epochs: int | None, max_steps: int | None, recipe_content: Content, write_recipe: Write
) -> None:
    recipe_content["run"] |= {"epochs": epochs, "max_steps": max_steps}
    with pytest.raises(TrainingError, match=r"exactly one of run\.epochs and run\.max_steps"):
        load_recipe(write_recipe(recipe_content))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"packing": True, "sampling": "group_by_length"}}, r"set data\.sampling to random"),
        ({"base_model": {"quantization": "nf4"}, "lora": None}, "whose weights are trained"),
        ({"base_model": {"quantization": "nf4"}}, "quantizes for a CPU"),
        ({"run": {"keep_best": True, "eval_every": 4, "checkpoint_every": 6}}, r"multiple of run\.eval_every"),
        ({"run": {"patience": 2}}, "without a best model"),
        ({"scale": {"sharding": "full"}}, r"set scale\.sharding to none"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(
    changes: Content, said: str, recipe_content: Content, write_recipe: Write
) -> None:
    for part, values in changes.items():
        recipe_content[part] = recipe_content[part] | values if values else None
    with pytest.raises(TrainingError, match=said):
        load_recipe(write_recipe(recipe_content))


def test_every_base_model_of_the_hub_is_pinned_and_no_code_of_it_runs() -> None:
    for path in OURS:
        base = load_recipe(path).base_model
        assert base.source.startswith("azureml:") or len(base.revision or "") == 40
    for path in RECIPES.parent.rglob("*.py"):
        assert not re.search(r"trust_remote_code\s*=\s*(?!False)", path.read_text()), path


def test_a_trial_of_a_sweep_changes_values_that_are_there(recipe_content: Content, write_recipe: Write) -> None:
    path = write_recipe(recipe_content)
    recipe = load_recipe(path, ["optimizer.learning_rate=0.5", "lora.rank=3", "run.max_steps=null", "run.epochs=2"])
    assert (recipe.optimizer.learning_rate, recipe.lora and recipe.lora.rank, recipe.run.epochs) == (0.5, 3, 2)
    assert load_recipe(path, ["optimizer.learning_rate=5e-05"]).optimizer.learning_rate == 5e-5
    for change in ("lora", "lora=1", "lora.rnk=1", "run.seed.x=1", "=", "run.seed=[", "nothing.at=1"):
        with pytest.raises(TrainingError, match=r"changes no value|wrong value"):
            load_recipe(path, [change])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [", "line 1 is not valid YAML"),
        (b"- a", "not a mapping"),
        (b"", "not a mapping"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_no_recipe(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=said):
        load_recipe(path)
    with pytest.raises(TrainingError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
