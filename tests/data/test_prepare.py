"""`prepare` writes a whole data set that describes itself truly, or leaves everything as it was."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from data import prepare as module
from data.errors import DataError
from data.load import read_jsonl
from data.manifest import file_sha256, load_dataset
from data.prepare import prepare

Row = dict[str, Any]


@pytest.fixture
def files(tmp_path: Path, make_ticket: Callable[..., Row], write: Callable[..., Path]) -> tuple[Path, Path]:
    pool = write(tmp_path / "pool.jsonl", [make_ticket(n) for n in range(60)])
    gate = write(tmp_path / "gate.jsonl", [make_ticket(n, cluster=f"h-{n}") for n in range(100, 120)])
    return pool, gate


def everything(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_record_describes_the_files_truly(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = prepare(*files, out, "tickets")
    assert load_dataset(out / "dataset.json") == made
    assert set(everything(out)) == {"dataset.json", *(file.path for file in made.files.values())}
    for file in made.files.values():
        rows = read_jsonl(out / file.path)
        assert (file_sha256(out / file.path), len(rows)) == (file.sha256, file.rows)
        assert file.tokens > 10 * file.rows
    pool = {row["id"] for row in read_jsonl(files[0])}
    split = [{row["id"] for row in read_jsonl(out / made.files[part].path)} for part in ("train", "validation")]
    assert split[0] | split[1] == pool
    assert not split[0] & split[1]
    assert made.asset is None
    assert made.version == made.digest[:12]
    assert made.token_count == "approximate"


def test_what_a_job_mounts_holds_no_held_out_prompt(files: tuple[Path, Path], tmp_path: Path) -> None:
    prepare(*files, tmp_path / "out", "tickets")
    assert {p.name for p in (tmp_path / "out" / "training").iterdir()} == {"train.jsonl", "validation.jsonl"}


def test_equal_content_has_an_equal_version_and_one_changed_letter_another(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    late = lambda: datetime(2030, 1, 1, tzinfo=UTC)  # noqa: E731
    first = prepare(*files, tmp_path / "a", "tickets")
    assert prepare(*files, tmp_path / "b", "other name", now=late).digest == first.digest
    files[0].write_text(files[0].read_text().replace("charged twice for lamp 3.", "charged twice for lamp 3!"))
    assert prepare(*files, tmp_path / "c", "tickets").digest != first.digest


def test_a_second_run_replaces_the_first(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(*files, out, "tickets")
    files[0].write_text("\n".join(files[0].read_text().splitlines()[:40]) + "\n")
    made = prepare(*files, out, "tickets")
    assert made.files["train"].rows + made.files["validation"].rows == 40
    assert load_dataset(out / "dataset.json") == made
    assert {p.name for p in tmp_path.iterdir()} == {"out", "pool.jsonl", "gate.jsonl"}


def test_refused_data_leaves_the_earlier_set_untouched(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(*files, out, "tickets")
    before = everything(out)
    files[0].write_text(files[0].read_text() + files[1].read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match="leakage"):
        prepare(*files, out, "tickets")
    assert everything(out) == before
    assert {p.name for p in tmp_path.iterdir()} == {"out", "pool.jsonl", "gate.jsonl"}


@pytest.mark.parametrize("failing", ["_write", "write_text", "_swap"])
def test_a_crash_at_any_point_leaves_the_earlier_set_untouched(
    failing: str, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare(*files, out, "tickets")
    before = everything(out)
    files[0].write_text("\n".join(files[0].read_text().splitlines()[:40]) + "\n")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, failing, crash)
    with pytest.raises(KeyboardInterrupt):
        prepare(*files, out, "tickets")
    assert everything(out) == before
    assert {p.name for p in tmp_path.iterdir()} == {"out", "pool.jsonl", "gate.jsonl"}


def test_a_folder_that_is_not_ours_is_never_replaced(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    with pytest.raises(DataError, match="is no prepared data set"):
        prepare(*files, tmp_path / "thesis", "tickets")
    assert everything(tmp_path / "thesis") == {"chapter1.txt": b"years of work"}


def test_faults_in_the_held_out_file_stop_too(files: tuple[Path, Path], tmp_path: Path) -> None:
    files[1].write_text(files[1].read_text() + files[1].read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match=r"duplicate_id: 1 row\(s\), e\.g\. gate\.jsonl row 21"):
        prepare(*files, tmp_path / "out", "tickets")
    assert not (tmp_path / "out").exists()


def test_a_record_changed_by_hand_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    prepare(*files, tmp_path / "out", "tickets")
    path = tmp_path / "out" / "dataset.json"
    content = json.loads(path.read_text())
    content["files"]["train"]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="changed by hand"):
        load_dataset(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="not a data record"):
        load_dataset(path)
    with pytest.raises(DataError, match="no data record"):
        load_dataset(tmp_path / "none.json")


def test_a_folder_without_a_tokenizer_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No tokenizer could be loaded"):
        prepare(*files, tmp_path / "out", "tickets", tokenizer=tmp_path)
