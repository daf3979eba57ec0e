"""Training code of a few lines in the place of ours: for tests of how jobs are submitted, not of what they learn."""

import json
from pathlib import Path

import pytest

from scripts import training_job

from .operate.conftest import Azure

ROOT = Path(__file__).parents[2]
METRICS = ROOT / "tests/scripts/fixtures/report/promoted/training.json"


def put_in_place(azure: Azure, folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`script` becomes train.py, beside a metrics.json that it can leave; the data asset tickets:1 is there."""
    from azure.ai.ml.entities import Data
    from azure.core.exceptions import ResourceNotFoundError

    data, code = folder / "data", folder / "code"
    for made in (data, code):
        made.mkdir()
    (data / "train.jsonl").write_text("{}\n")
    try:
        azure.ml.data.get("tickets", "1")
    except ResourceNotFoundError:
        azure.ml.data.create_or_update(Data(name="tickets", version="1", path=str(data), type="uri_folder"))
    (code / "metrics.json").write_text(json.dumps(json.loads(METRICS.read_text())["metrics"]))
    (code / "train.py").write_text(script)
    monkeypatch.setattr(training_job, "CODE", code)
