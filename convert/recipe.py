"""A recipe: every parameter of a conversion in one small YAML file. No key is optional and none is ignored."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convert.errors import ConvertError


class Weights(BaseModel):
    """How the matrices of one kind are kept. 16 bits do not exist here: onnxruntime has no such kernel for x86."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    bits: Literal[4, 8, 32]
    block: Literal[16, 32, 64, 128] | None  # weights that share a scale; null: each row of the matrix has one
    symmetric: bool  # true: zero is the middle of the range; false: each block has its own zero
    search: Annotated[int, Field(ge=1, le=100)]  # narrower ranges tried for each block, for the least squared error


class Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    body: Weights  # the matrices of the layers
    head: Weights  # the matrix that turns the last state into a score for each token
    # What a matrix is multiplied with: int8 is a byte a number in blocks, and two where whole rows share a scale.
    activations: Literal["int8", "float32"]


def load_recipe(path: Path) -> tuple[Recipe, str]:
    """The recipe in `path` and its digest. Raises ConvertError with one sentence for anything that is wrong with it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConvertError(f"Recipe {path} cannot be read ({reason}); give the path of a YAML recipe.") from None
    except yaml.YAMLError:
        raise ConvertError(f"Recipe {path} is not valid YAML; start from a file in convert/recipes.") from None
    if not isinstance(content, dict):
        raise ConvertError(f"Recipe {path} is not a mapping of keys; start from a file in convert/recipes.")
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise ConvertError(_sentence(path, error)) from None
    for part in (recipe.body, recipe.head):
        if part.block is None and (part.bits, part.symmetric, recipe.activations) != (8, True, "int8"):
            raise ConvertError(
                f"Recipe {path} has block: null, which needs bits: 8, symmetric: true and activations: int8."
            )
    return recipe, hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()


def _sentence(path: Path, error: ValidationError) -> str:
    """The first thing that is wrong; that a key is unknown says more than that the right one is missing."""
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = list((Recipe if len(first["loc"]) == 1 else Weights).model_fields)
        (near,) = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0)
        return f"Recipe {path} has the unknown key '{key}'; the nearest known key is '{near}'."
    if first["type"] == "missing":
        return f"Recipe {path} lacks the key '{key}'; every parameter has to be written down."
    return f"Recipe {path} has a wrong value at '{key}': {first['msg']}."
