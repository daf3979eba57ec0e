"""Recipes of route serverless, the service's table and format, what a job must tell: all without Azure."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.doctor.serverless import NEEDED, allows, matches
from scripts.errors import InvalidInput, Refused
from scripts.routes import named, of_recipe, serverless, serverless_data, serverless_recipe
from scripts.routes.tracked import Point

RECIPE = Path("training/recipes/serverless_phi4_mini.yaml")
MODEL = "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1"


def changed(folder: Path, change: dict[str, Any], **parameters: Any) -> Path:
    content = yaml.safe_load(RECIPE.read_text())
    content |= change
    content["hyperparameters"] |= parameters
    path = folder / RECIPE.name
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_shipped_recipe() -> None:
    assert of_recipe(RECIPE) == "serverless"
    assert named("serverless") is serverless
    serverless.check(RECIPE)
    recipe = serverless_recipe.load(RECIPE)
    assert recipe.model == MODEL
    sent = {"num_train_epochs": "2", "batch_size_multiplier": "1", "learning_rate_multiplier": "1"}
    assert recipe.hyperparameters.wire() == sent


def test_the_samples_learning_rate(tmp_path: Path) -> None:
    path = changed(tmp_path, {}, learning_rate=0.00002, learning_rate_multiplier=None, epochs=1)
    sent = {"num_train_epochs": "1", "batch_size_multiplier": "1", "learning_rate": "2e-05"}
    assert serverless_recipe.load(path).hyperparameters.wire() == sent


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"learning_rate": 0.1}, "exactly one of learning_rate and learning_rate_multiplier"),
        ({"learning_rate_multiplier": None}, "exactly one of learning_rate and learning_rate_multiplier"),
        ({"epochs": 0}, "hyperparameters.epochs"),
        ({"epochs": "2"}, "hyperparameters.epochs"),
        ({"batch_size_multiplier": float("nan")}, "hyperparameters.batch_size_multiplier"),
        ({"epoch": 2}, "unknown key 'hyperparameters.epoch'; the nearest known key is 'epochs'"),
    ],
)
def test_recipes_that_are_refused(tmp_path: Path, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        serverless.check(changed(tmp_path, {}, **parameters))


def test_what_is_retired_or_searched_is_refused(tmp_path: Path) -> None:
    gone = {"base_model": {"source": "Phi-3-mini-4k-instruct", "revision": "14"}}
    with pytest.raises(Refused, match=r"retired in Azure since 2025-08-30.*use Phi-4-mini-instruct"):
        serverless.check(changed(tmp_path, gone))
    with pytest.raises(InvalidInput, match="--sweep is for recipes of route job"):
        serverless.check(RECIPE, ["hyperparameters.epochs=3"])


def test_regions() -> None:
    assert serverless_recipe.offer(MODEL, "East US 2", "fine_tune").name == "Phi-4-mini-instruct"
    assert serverless_recipe.offer(MODEL, "swedencentral", "deploy").name == "Phi-4-mini-instruct"
    with pytest.raises(Refused, match="not fine-tuned as a service in swedencentral, only in eastus2"):
        serverless_recipe.offer(MODEL, "swedencentral", "fine_tune")
    with pytest.raises(Refused, match="Ministral-3B is not known to be fine-tuned"):
        serverless_recipe.offer("azureml://registries/azureml-mistral/models/Ministral-3B", "eastus2", "fine_tune")


def test_a_price_says_when_and_where_it_was_looked_up(tmp_path: Path) -> None:
    content = yaml.safe_load(serverless_recipe.TABLE.read_text())
    content["models"][0]["price"]["per_million_training_tokens"] = 3.0
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidInput, match="a known price needs looked_up and source"):
        serverless_recipe.table(path)


def row(**more: Any) -> str:
    turns = [{"role": "user", "content": "é\u2028", "weight": 1}, {"role": "assistant", "content": "b"}]
    return json.dumps({"id": "1", "messages": turns, **more}, ensure_ascii=False)


def test_rows_in_the_services_own_format() -> None:
    made = serverless_data.rows(f"{row(slices={'a': 'b'})}\n\n{row()}\n", "x").rstrip("\n").split("\n")
    assert len(made) == 2
    for each in map(json.loads, made):
        assert list(each) == ["messages"]
        assert [sorted(turn) for turn in each["messages"]] == [["content", "role"]] * 2
        assert each["messages"][0]["content"] == "é\u2028"
    for broken in ("", "{}", '{"messages": [{"role": "user"}]}', "{"):
        with pytest.raises(InvalidInput, match="the data"):
            serverless_data.rows(broken, "the data")


CURVE = [Point(1, 2.0), Point(5, 1.0)]
LAST = {"train_loss": 1.0, "valid_loss": 1.5, "valid_mean_token_accuracy": 0.7}


def test_what_a_job_tells_and_what_it_does_not() -> None:
    told = serverless.metrics("j", CURVE, LAST, "m", "b")
    assert [(point.step, point.loss) for point in told.loss] == [(1, 2.0), (5, 1.0)]
    assert (told.eval_loss, told.token_accuracy, told.steps) == (1.5, 0.7, 5)
    assert (told.tokens_per_second, told.trained_tokens, told.peak_memory_mb, told.eval_seconds) == (None,) * 4
    assert serverless.metrics("j", CURVE, {"loss": 1.0, "eval_loss": 2.0}, "m", "b").eval_loss == 2.0


@pytest.mark.parametrize(
    ("curve", "last"),
    [
        ([], LAST),
        (CURVE, {"train_loss": 1.0}),
        (CURVE, {"valid_loss": 1.0}),
        (CURVE, {**LAST, "valid_loss": float("nan")}),
        ([Point(1, float("nan"))], LAST),
        ([Point(1, float("inf"))], LAST),
    ],
)
def test_no_evidence_is_no_model(curve: list[Point], last: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="its model cannot be registered"):
        serverless.metrics("j", curve, last, "m", "b")


class Role:
    def __init__(self, actions: list[str], not_actions: list[str] | None = None) -> None:
        self.actions, self.not_actions = actions, not_actions or []


def test_rights_are_read_as_azure_reads_them() -> None:
    ml = "Microsoft.MachineLearningServices/workspaces"
    assert matches(f"{ml}/*/write", f"{ml}/jobs/write")
    assert matches(f"{ml}/*/write", f"{ml}/write")
    assert not matches(f"{ml}/*/read", f"{ml}/jobs/write")
    owner, reader = Role(["*"]), Role(["*/read"])
    scientist = Role([f"{ml}/*/{verb}" for verb in ("read", "action", "delete", "write")], [f"{ml}/listKeys/action"])
    for action in NEEDED:
        assert allows([owner], action)
        assert allows([reader, scientist], action)
        assert not allows([reader], action)
        assert not allows([Role(["*"], [action])], action)
        assert not allows([], action)
