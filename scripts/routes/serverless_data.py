"""The service's own chat format: JSONL of nothing but `messages`, a file for each split, from the same manifest.

`data` made the validation split (by what the rows have in common) where the source has none of its own, so there is
always one: the SDK cannot submit a job without.
"""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml
from scripts.errors import InvalidInput

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

SPLITS = ("train", "validation")
MAX_BYTES = 512 * 2**20  # the service takes no larger file


def rows(text: str, where: str) -> str:
    """Each row as the service wants it. Raises InvalidInput for a row without messages."""
    made = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            turns = json.loads(line)["messages"]
            kept = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
        except (ValueError, KeyError, TypeError):
            raise InvalidInput(f"{where}, line {number}: not a chat (`messages` of role and content).") from None
        made.append(json.dumps({"messages": kept}))
    if not made:
        raise InvalidInput(f"{where}: there are no chats in it.")
    return "".join(f"{row}\n" for row in made)


def uploaded(ml: "MLClient", asset: str) -> tuple[str, str]:
    """Ids of the files that a job is given, of the data set `azureml:NAME:VERSION`; each is uploaded once."""
    from azure.ai.ml.entities import Data

    _, name, version = asset.split(":")
    ids = {}
    with azure_ml.waiting("Preparing the chats for the service"), tempfile.TemporaryDirectory() as folder:
        try:
            for split in SPLITS:
                ids[split] = str(ml.data.get(f"{name}-chat-{split}", version).id)
        except ResourceNotFoundError:
            _download(ml, name, version, Path(folder))
            for split in SPLITS:
                found = next(iter(Path(folder).rglob(f"{split}.jsonl")), None)
                if found is None:
                    raise InvalidInput(f"Data set {asset} has no {split}.jsonl: run `data` again.") from None
                text = rows(found.read_text(encoding="utf-8"), f"{asset}, {split}.jsonl")
                if len(text.encode()) >= MAX_BYTES:
                    raise InvalidInput(f"{asset}, {split}.jsonl: the service takes files below 512 MB.") from None
                path = Path(folder) / f"{split}-chat.jsonl"
                path.write_text(text, encoding="utf-8")
                made = Data(name=f"{name}-chat-{split}", version=version, path=str(path), type="uri_file")
                ids[split] = str(ml.data.create_or_update(made).id)
    return ids["train"], ids["validation"]


def _download(ml: "MLClient", name: str, version: str, folder: Path) -> None:
    from azure.ai.ml._artifacts._artifact_utilities import download_artifact_from_aml_uri  # the SDK has no other way

    try:
        found = ml.data.get(name, version)
    except ResourceNotFoundError:
        raise InvalidInput(f"The workspace has no data asset {name}:{version}; run `data` again.") from None
    download_artifact_from_aml_uri(str(found.path), str(folder), ml.datastores)
