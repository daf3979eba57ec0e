"""A data asset of the workspace as a source: downloaded by the unmodified SDK, then checked like any file."""

from pathlib import Path

import pytest
from azure.ai.ml.entities import Data

from data.manifest import load_dataset

from .conftest import ROOT, Azure

pytestmark = pytest.mark.slow


def test_an_asset_is_downloaded_checked_and_uploaded_once(azure: Azure) -> None:
    folder = azure.folder / "chats"
    folder.mkdir()
    (folder / "pool.jsonl").write_bytes((ROOT / "data/tickets.jsonl").read_bytes())
    azure.ml.data.create_or_update(Data(name="chats", version="7", path=str(folder), type="uri_folder"))
    out = azure.folder / "dataset.json"
    arguments = ("--folder", str(azure.folder / "prepared"), "--out", str(out))
    made = []
    for source in ("azureml:chats:7", str(ROOT / "data/tickets.jsonl")):
        ran = azure.command("data", "--source", source, *arguments)
        assert ran.code == 0, ran.error
        made.append(load_dataset(out))
        assert ran.outputs == {"data_asset": made[-1].asset}
    assert made[0].digest == made[1].digest
    assert len(list(azure.ml.data.list(made[0].name))) == 1

    for source, code, said in (
        ("azureml:chats:8", 3, "no data asset azureml:chats:8"),
        ("azureml:chats", 3, "azureml:NAME:VERSION"),
    ):
        ran = azure.command("data", "--source", source, "--folder", str(azure.folder / "no"), "--out", str(out))
        assert (ran.code, said in ran.error) == (code, True), ran.error
    assert not Path(azure.folder / "no").exists()
