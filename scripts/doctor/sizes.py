"""Will Azure still have the VM sizes of the settings? What it takes away, and when, is data (retired.yaml)."""

import datetime as dt
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from scripts import tiers, yaml_files
from scripts.doctor.context import Context
from scripts.errors import InvalidInput
from scripts.settings import Settings

FILE = Path("scripts/doctor/retired.yaml")


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Retirement(Part):
    sizes: list[str] = Field(min_length=1)
    date: dt.date
    source: str


class Retirements(Part):
    retirements: list[Retirement]


def check(context: Context) -> str:
    """Raises InvalidInput naming each size that is gone, or that its tier does not run on; what will go is told."""
    gone, going, fine = [], [], []
    today = dt.datetime.now(dt.UTC).date()
    for where, size in sizes_of(context.settings).items():
        found = retirement(size, load())
        if found is None:
            fine.append(size)
        elif found.date <= today:
            gone.append(f"{where} {size} is retired in Azure since {found.date} ({found.source}), choose another")
        else:
            going.append(f"{size} goes on {found.date}")
    if gone:
        raise InvalidInput(f"{context.config}: {'; '.join(gone)}.")
    tiers.check_size(context.settings)
    return "; ".join([f"no retirement is announced of {' and '.join(sorted(set(fine)))}"] * bool(fine) + going)


def load(path: Path = FILE) -> Retirements:
    return yaml_files.read(Retirements, path, "the table of retired sizes")


def sizes_of(settings: Settings) -> dict[str, str]:
    """By the setting that asks for it."""
    return {"compute.size": settings.compute.size, "serving.instance_type": settings.serving.instance_type}


def retirement(size: str, known: Retirements) -> Retirement | None:
    """When a size goes, or went; None when nobody said that it does."""
    return next(
        (
            each
            for each in known.retirements
            if any(re.fullmatch(pattern, size, re.IGNORECASE) for pattern in each.sizes)
        ),
        None,
    )
