"""What Azure has taken away, or will: VM sizes and models, each with a date, who said so, and what to use instead.

The table is doctor/retired.yaml. `doctor` tells of what will go; `train` refuses what is gone.
"""

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from scripts import records, yaml_files
from scripts.errors import Refused

FILE = Path(__file__).parent / "doctor" / "retired.yaml"
TAG = "FinetuneRetirementDate"  # on a model of the registry


class Retirement(records.Part):
    sizes: list[str] = Field(min_length=1)
    date: dt.date
    source: str
    instead: str = ""


class ModelRetirement(records.Part):
    models: list[str] = Field(min_length=1)
    date: dt.date
    source: str
    instead: str


class Retirements(records.Part):
    retirements: list[Retirement]
    models: list[ModelRetirement] = Field(default_factory=list)


def load(path: Path = FILE) -> Retirements:
    return yaml_files.read(Retirements, path, "the table of retired sizes and models")


def retirement(size: str, known: Retirements) -> Retirement | None:
    """When a size goes, or went; None when nobody said that it does."""
    return next((each for each in known.retirements if _matches(each.sizes, size)), None)


def of_model(name: str, known: Retirements) -> ModelRetirement | None:
    return next((each for each in known.models if _matches(each.models, name)), None)


def _matches(patterns: list[str], name: str) -> bool:
    return any(re.fullmatch(pattern, name, re.IGNORECASE) for pattern in patterns)


def today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def check_size(where: str, size: str) -> None:
    """Raises Refused for a size that is gone."""
    found = retirement(size, load())
    if found and found.date <= today():
        instead = found.instead or "another size"
        raise Refused(f"{where} {size} is retired in Azure since {found.date} ({found.source}): use {instead}.")


def check_model(name: str) -> None:
    """Raises Refused for a model of the registry that is gone."""
    found = of_model(name, load())
    if found and found.date <= today():
        raise Refused(f"Model {name} is retired in Azure since {found.date} ({found.source}): use {found.instead}.")


def check_tags(name: str, tags: Mapping[str, str]) -> None:
    """Raises Refused for a model that itself says that it is gone, whatever our table knows."""
    try:
        date = dt.date.fromisoformat(tags.get(TAG, "")[:10])
    except ValueError:
        return
    if date <= today():
        raise Refused(f"Model {name} says that it cannot be fine-tuned since {date} (its tag {TAG}): use a newer one.")
