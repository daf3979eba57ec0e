"""Read a YAML file of ours into its model, or say in one sentence what is wrong with it."""

import difflib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from scripts.errors import InvalidInput

Kind = TypeVar("Kind", bound=BaseModel)


def read(kind: type[Kind], path: Path, what: str) -> Kind:
    """`what` the file is, for the sentence ("the rollout policy"). Raises InvalidInput naming the file and the key."""
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: {what} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: not YAML: {' '.join(str(error).split())}.") from None
    except ValidationError as error:
        raise InvalidInput(f"{path}: {sentence(kind, error, what)}.") from None


def sentence(kind: type[BaseModel], error: ValidationError, what: str = "") -> str:
    """The first thing that is wrong with a `kind`, without a full stop; for an unknown key the nearest known one."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or what
    said = f"{where}: {first['msg'].removeprefix('Value error, ')}" if where else first["msg"]
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _keys(kind, first["loc"][:-1]), n=1, cutoff=0.5)
        said += f"; did you mean {near[0]}" if near else ""
    return said


def _keys(kind: Any, path: Sequence[int | str]) -> list[str]:
    """The keys that are known at a place in a model; none where the place is no model."""
    for part in path:
        fields = getattr(kind, "model_fields", {})
        kind = fields[part].annotation if part in fields else kind
        while not hasattr(kind, "model_fields") and (inner := typing.get_args(kind)):
            kind = next((each for each in inner if hasattr(each, "model_fields")), inner[-1])
    return list(getattr(kind, "model_fields", {}))
