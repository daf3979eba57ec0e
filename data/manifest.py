"""`dataset.json`: what a data set is, down to the digest of every file, and which checks it passed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from data.checks import Check
from data.corpus import Split
from data.errors import DataError

ENCODED_FORMAT = "1"  # of token files: their columns, what these mean, the digests; `training` refuses any other
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Encoded(BaseModel):
    """The token file of a split: ids and labels of its rows, in their order."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    sha256: Sha256


class DataFile(BaseModel):
    """One file of the data set; `path` is relative to the folder of the record."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    sha256: Sha256
    rows: int = Field(gt=0)
    tokens: int = Field(gt=0)
    loss_tokens: int | None = Field(None, ge=0)  # what the assistant wrote; unknown in records of before
    encoded: Encoded | None = None  # where the tokenizer is known


class Dataset(BaseModel):
    """The record. `version` follows from the content, so that equal data is never uploaded twice."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    name: str = Field(min_length=1)
    version: str
    digest: Sha256
    asset: str | None = None  # `azureml:NAME:VERSION` once it is uploaded
    created_at: AwareDatetime
    token_count: Literal["exact", "approximate"]
    tokenizer: Sha256 | None = None  # of tokenizer.json, where the count is exact …
    template: Sha256 | None = None  # … and of the chat template as it is rendered
    files: dict[Split, DataFile]
    checks: list[Check]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(files: Mapping[Split, DataFile]) -> str:
    """SHA-256 over the sorted (split, SHA-256 of its file) pairs of what a job is given, as compact JSON.

    The held-out prompts are not among them: another question for the gate is no reason to train again.
    """
    pairs = sorted((name, file.sha256) for name, file in files.items() if name != "heldout")
    return hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest()


def version_of(digest: str, encoding: str = "") -> str:
    """The asset's version: twelve digits of the content's digest, and eight of what its token files are made with.

    Equal rows are never uploaded twice for one tokenizer, and the digest, which jobs are named by, is of rows alone:
    token files change how soon a job begins and nothing of what it learns.
    """
    return digest[:12] + (f"-{encoding[:8]}" if encoding else "")


def is_version_of(version: str, digest: str) -> bool:
    """Whether an asset of this version holds the rows of this digest."""
    return version.partition("-")[0] == version_of(digest)


def encoding_of(files: Mapping[Split, DataFile], tokenizer: str | None, template: str | None) -> str:
    """What `version_of` wants to know of the token files; "" where there are none.

    Not the digest of their bytes: another version of Arrow would write the same ids in another way.
    """
    if not any(file.encoded for file in files.values()):
        return ""
    return hashlib.sha256(json.dumps([ENCODED_FORMAT, tokenizer, template]).encode()).hexdigest()


def load_dataset(path: Path) -> Dataset:
    """Reads a record. Raises DataError when it is missing, broken, or its digest does not follow from its files."""
    try:
        dataset = Dataset.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"There is no data record {path} ({error.strerror}); prepare the data first.") from None
    except ValueError as error:
        raise DataError(
            f"{path} is not a data record ({str(error).splitlines()[0]}); prepare the data again."
        ) from None
    encoding = encoding_of(dataset.files, dataset.tokenizer, dataset.template)
    if digest_of(dataset.files) != dataset.digest or version_of(dataset.digest, encoding) != dataset.version:
        raise DataError(f"{path} was changed by hand: its digest does not match its files; prepare the data again.")
    return dataset
