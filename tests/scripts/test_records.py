"""Records: strict when read, whole when written."""

import json
from pathlib import Path

import pytest

from scripts import records
from scripts.errors import InvalidInput

MODEL = {
    "schema_version": 1,
    "name": "m",
    "version": "1",
    "id": "azureml:m:1",
    "digest": "d" * 64,
    "path": "p",
    "lineage": {"data": "", "code": "", "recipe": "", "job": ""},
}


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    model = records.Model.model_validate(MODEL)
    records.write(model, tmp_path / "deep" / "model.json")
    assert records.read(records.Model, tmp_path / "deep" / "model.json") == model
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model.json"]


@pytest.mark.parametrize(
    ("change", "named"),
    [({"digest": None}, "digest"), ({"extra": 1}, "extra"), ({"schema_version": 2}, "schema_version")],
)
def test_a_wrong_record_is_one_sentence(tmp_path: Path, change: dict[str, object], named: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**MODEL, **change}))
    with pytest.raises(InvalidInput, match=named) as caught:
        records.read(records.Model, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "null", "[]"])
def test_what_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"model\.json"):
        records.read(records.Model, path)


def test_a_missing_record_says_which_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="run `python -m scripts register` that writes it"):
        records.read(records.Model, tmp_path / "none.json")


def test_nan_is_not_a_measurement() -> None:
    with pytest.raises(ValueError, match="finite"):
        records.LossPoint.model_validate({"step": 1, "loss": float("nan")})


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        records.write(records.Model.model_validate(MODEL), tmp_path / "file" / "model.json")
