"""`data`: sources that are assets are downloaded, the checked data set is uploaded. Equal data is uploaded once."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import settings as settings_of
from scripts.errors import InvalidInput
from scripts.settings import Settings

if TYPE_CHECKING:
    from data.checks import Check
    from data.manifest import Dataset
    from data.sources import Asset, File, Sources

HELD_OUT = Path("data/heldout.jsonl")
ASSETS = Path("out/assets")
YAML = (".yaml", ".yml")


def sources(source: str, held_out: str | None, config: Path | None) -> "Sources":
    """What `--source` and `--held-out` mean, with every data asset among them downloaded.

    `held_out` None: what the YAML says, and for a plain file the prompts of this repository; "auto": none.
    """
    from data.sources import Asset, File, load_sources

    if source.startswith("azureml:"):
        from data.rules import TASK
        from data.sources import Sources

        found = Sources(name=source.split(":")[1], rules=TASK, train=_asset(source))
    else:
        found = load_sources(Path(source))
    plain = Path(source).suffix not in YAML
    if held_out == "auto":
        found = found.model_copy(update={"heldout": None})
    elif held_out or plain:
        found = found.model_copy(update={"heldout": File(file=Path(held_out or HELD_OUT))})
    changed = {
        split: download(settings_of.load(config), each)
        for split in ("train", "validation", "heldout")
        if isinstance(each := getattr(found, split), Asset)
    }
    return found.model_copy(update=changed)


def _asset(text: str) -> "Asset":
    from pydantic import ValidationError

    from data.sources import Asset

    try:
        return Asset(asset=text)
    except ValidationError:
        raise InvalidInput(f"A data asset is named azureml:NAME:VERSION, not {text[:80]!r}.") from None


def download(settings: Settings, source: "Asset") -> "File":
    """The files of a data asset, read as what it says. Raises InvalidInput for one that the workspace does not have."""
    from azure.ai.ml._artifacts._artifact_utilities import download_artifact_from_aml_uri  # the SDK has no other way
    from azure.core.exceptions import ResourceNotFoundError

    from data.sources import File
    from scripts import azure_ml

    _, name, version = source.asset.split(":")
    ml, folder = azure_ml.client(settings), ASSETS / f"{name}-{version}"
    with azure_ml.explained(f"Downloading {source.asset}"), azure_ml.waiting(f"Downloading {source.asset}"):
        try:
            found = ml.data.get(name, version)
        except ResourceNotFoundError:
            raise InvalidInput(f"The workspace has no data asset {source.asset}; check name and version.") from None
        download_artifact_from_aml_uri(str(found.path), str(folder), ml.datastores)
    fields = source.model_dump(exclude={"asset", "file"})
    return File(file=folder / source.file if source.file else folder, **fields)


def drawn(checks: "Sequence[Check]") -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Checks as the columns and rows of a table."""
    rows: list[tuple[str, ...]] = [
        (check.code, check.severity, "–" if check.count is None else f"{check.count:,}", _example(check))
        for check in checks
    ]
    return ("check", "severity", "found", "example"), rows


def _example(check: "Check") -> str:
    if check.count is None:
        return check.message
    return f"{check.examples[0]} {check.message}" if check.examples else ""


def upload(settings: Settings, dataset: "Dataset", folder: Path) -> "Dataset":
    """Make `folder` the data asset NAME:VERSION (version = content digest) unless that version is already there."""
    from azure.ai.ml.entities import Data
    from azure.core.exceptions import ResourceNotFoundError

    from scripts import azure_ml

    ml = azure_ml.client(settings)
    what = f"data asset {dataset.name}:{dataset.version}"
    with azure_ml.explained(f"Uploading {what}"), azure_ml.waiting(f"Uploading {what}"):
        try:
            ml.data.get(dataset.name, dataset.version)
        except ResourceNotFoundError:
            ml.data.create_or_update(
                Data(
                    name=dataset.name,
                    version=dataset.version,
                    path=str(folder),
                    type="uri_folder",
                    tags=tags(dataset),
                )
            )
    return dataset.model_copy(update={"asset": f"azureml:{dataset.name}:{dataset.version}"})


def tags(dataset: "Dataset") -> dict[str, str]:
    """What the asset says of itself, so that `retrain-decision` can tell how much of later data is new."""
    rows, train_rows = learned_rows(dataset), dataset.files["train"].rows
    return {"digest": dataset.digest, "rows": str(rows), "train_rows": str(train_rows)}


def learned_rows(dataset: "Dataset") -> int:
    """What a job learns from and is validated on. The gate's prompts never travel with it."""
    return dataset.files["train"].rows + dataset.files["validation"].rows
