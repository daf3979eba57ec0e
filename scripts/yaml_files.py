"""Read a YAML file of ours into its model, or say in one sentence what is wrong with it."""

from pathlib import Path
from typing import TypeVar

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
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or what
        raise InvalidInput(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}.") from None
