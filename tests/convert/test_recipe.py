"""A recipe is whole or it is refused, with the key that was meant."""

from pathlib import Path

import pytest

from convert.errors import ConvertError
from convert.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "convert" / "recipes"
INT8 = (RECIPES / "int8_blocks.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_is_named_as_its_file(path: Path) -> None:
    assert load_recipe(path)[0].name == path.stem


def test_the_digest_is_of_the_values_and_not_of_the_comments(tmp_path: Path) -> None:
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text(INT8 + "# more\n")
    other.write_text(INT8.replace("activations: int8", "activations: float32"))
    digest = load_recipe(RECIPES / "int8_blocks.yaml")[1]
    assert load_recipe(same)[1] == digest != load_recipe(other)[1]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("activations: int8", "activation: int8", "unknown key 'activation'; the nearest known key is 'activations'"),
        ("body: {bits: 8,", "body: {bit: 8,", "unknown key 'body.bit'; the nearest known key is 'bits'"),
        ("activations: int8", "", "lacks the key 'activations'"),
        ("body: {bits: 8", "body: {bits: 5", "wrong value at 'body.bits'"),
        ("block: 32", "block: 33", "wrong value at 'body.block'"),
        ("body: {bits: 8, block: 32", "body: {bits: 4, block: null", "block: null, which needs bits: 8"),
        ("head: {bits: 8, block: 32, symmetric: true", "head: {bits: 8, block: null, symmetric: false", "block: null"),
        ("name: int8_blocks", "name: [", "not valid YAML"),
        (INT8, "- int8", "not a mapping"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(before: str, after: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert before in INT8
    path.write_text(INT8.replace(before, after))
    with pytest.raises(ConvertError, match=said) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
