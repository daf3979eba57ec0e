"""Read a recipe of a managed route into its model, or say in one sentence what is wrong with it."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from scripts.errors import InvalidInput


class Part(BaseModel):
    """Unknown keys are errors, and 3 is no "3"."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class BaseModelPart(Part):
    """The model to start from, by its name in a registry, and its version there."""

    source: str
    revision: str  # a version, or "latest": the newest one when the job is submitted


Kind = TypeVar("Kind", bound=Part)


def load(kind: type[Kind], path: Path, changes: Sequence[str] = ()) -> Kind:
    """Raises InvalidInput. `changes` are a sweep's, and only recipes of our own training code can be searched over."""
    if changes:
        raise InvalidInput(f"Recipe {path} is trained by the service: --sweep is for recipes of route job.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"Recipe {path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    except yaml.YAMLError as error:
        raise InvalidInput(f"Recipe {path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"Recipe {path} is not a mapping of keys; start from a file in training/recipes.")
    try:
        found = kind.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(_sentence(kind, path, error)) from None
    if (name := content.get("name")) != path.stem:
        raise InvalidInput(f"Recipe {path} has the name {name!r}: a recipe is called as its file is.")
    return found


def _sentence(kind: type[Part], path: Path, error: ValidationError) -> str:
    """The first thing that is wrong. A misspelt key is also one that is missing: that it is unknown says more."""
    first, *others = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    more = f" ({len(others)} more problem{'s' if len(others) > 1 else ''} in this file)" if others else ""
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _keys(kind, first["loc"][:-1]), n=1, cutoff=0)
        return f"Recipe {path} has the unknown key '{key}'; the nearest known key is '{near[0]}'{more}."
    if first["type"] == "missing":
        return f"Recipe {path} lacks the key '{key}'{more}."
    return f"Recipe {path} has a wrong value at '{key}': {first['msg'].removeprefix('Value error, ')}{more}."


def _keys(kind: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys that the part at `location` may have."""
    for name in location:
        field = kind.model_fields[str(name)]
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, type)]
        kind = next(each for each in inner if issubclass(each, BaseModel))
    return list(kind.model_fields)
