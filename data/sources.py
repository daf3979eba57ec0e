"""Where conversations come from, as YAML: a data set of the hub, files or a data asset; unknown keys are refused.

name: ultrachat
rules: data/checks-chats.yaml
train: {hub: HuggingFaceH4/ultrachat_200k, revision: …, split: train_sft, percent: 1, format: messages, id: prompt_id}
validation: null   # made from train, by cluster
heldout: null      # made from train too, unless a file is given
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from data import rules
from data.chunks import Chunk, Shape, of_file
from data.errors import DataError
from data.rules import parse_yaml

SUFFIXES = (".jsonl", ".parquet")
KINDS = ("hub", "file", "asset")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Source(_Part):
    format: Literal["auto", "messages", "prompt_completion", "sharegpt", "alpaca", "review"] = "auto"
    id: str = "id"  # the key that holds a record's id, and its cluster; made from the content where it is missing
    cluster: str = "cluster_id"

    @property
    def shape(self) -> Shape:
        return Shape(self.format, self.id, self.cluster)


class Hub(_Source):
    """A data set of the hub, at one commit: what a name points to may change, what was trained on may not."""

    hub: str = Field(min_length=1)
    revision: str
    split: str = Field(min_length=1)
    percent: int = Field(100, ge=1, le=100)  # the first so many

    @field_validator("revision")
    @classmethod
    def _pinned(cls, value: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{40}", value):
            raise ValueError(f"pin the 40 hexadecimal digits of a commit, not '{value[:60]}'")
        return value


class File(_Source):
    """A JSONL or parquet file, or a folder of them."""

    file: Path


class Asset(_Source):
    """A data asset of the workspace, downloaded by whoever may ask Azure; `file`: the path in it, if it is a folder."""

    asset: str = Field(pattern=r"^azureml:[A-Za-z0-9_.-]+:[A-Za-z0-9_.-]+$")
    file: Path | None = None


def _kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else vars(value) if isinstance(value, _Source) else {}
    return next((kind for kind in ("hub", "asset", "file") if kind in keys), "file")


Source = Annotated[
    Annotated[Hub, Tag("hub")] | Annotated[File, Tag("file")] | Annotated[Asset, Tag("asset")], Discriminator(_kind)
]
rules.TAGGED.update({"hub": Hub, "file": File, "asset": Asset})


class Sources(_Part):
    """What a data set is made of. Without `heldout` the gate's prompts are a tenth of `train`, like `validation`."""

    name: str = Field(min_length=1)
    rules: Path = rules.CHATS
    train: Source
    validation: Source | None = None
    heldout: Source | None = None


def load_sources(path: Path) -> Sources:
    """A YAML of sources, or a file or folder of chats (checked by this repository's rules) as the only source.

    Raises DataError for anything that is wrong with the YAML.
    """
    if path.suffix in (".yaml", ".yml"):
        return parse_yaml(path, Sources)
    return Sources(name=path.stem or "data", rules=rules.TASK, train=File(file=path))


def named(source: Hub | File | Asset) -> str:
    """What rows of it are shown with."""
    match source:
        case Hub():
            return f"{source.hub} {source.split}"
        case File():
            return source.file.name
    return source.asset


def chunks(source: Hub | File | Asset) -> Iterator[Chunk]:
    """The pieces of a source. Raises DataError when it is not there or cannot be read."""
    match source:
        case Hub():
            from data.hub import of_hub

            yield from of_hub(source.hub, source.revision, source.split, source.percent, source.shape)
        case File():
            for path in _files(source.file):
                yield from of_file(path, source.shape)
        case Asset():
            raise DataError(f"{source.asset} has to be downloaded first; `python -m scripts data` does that.")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not found:
        raise DataError(f"{path} is a folder without {' or '.join(SUFFIXES)} files; give the file or another folder.")
    return found
