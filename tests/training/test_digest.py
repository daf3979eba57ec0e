"""A folder's digest depends on names and bytes, and on nothing else."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from training.digest import folder_digest
from training.errors import TrainingError


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


FILES = {"config.json": b"{}", "sub/weights.bin": b"\x00\x01", "a.txt": b""}


def test_copies_are_equal_whatever_their_place_time_and_order(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", FILES)
    two = fill(tmp_path / "two" / "deep", dict(reversed(FILES.items())))
    os.utime(two / "a.txt", (0, 0))
    (two / "empty folder").mkdir()
    assert folder_digest(one) == folder_digest(two)


def test_the_digest_is_the_documented_formula(tmp_path: Path) -> None:
    folder = fill(tmp_path / "one", {"b": b"2", "a": b"1"})
    pairs = [f"{name}:{hashlib.sha256(content).hexdigest()}" for name, content in (("a", b"1"), ("b", b"2"))]
    assert folder_digest(folder) == hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [{"config.json": b"{ }"}, {"new": b""}, {"sub/weights.bin": b"\x00"}],
    ids=["content", "another file", "shorter"],
)
def test_any_change_shows(change: dict[str, bytes], tmp_path: Path) -> None:
    assert folder_digest(fill(tmp_path / "a", FILES)) != folder_digest(fill(tmp_path / "b", FILES | change))


def test_a_renamed_file_shows(tmp_path: Path) -> None:
    before = fill(tmp_path / "a", {"x": b"1", "y": b"2"})
    after = fill(tmp_path / "b", {"x": b"2", "y": b"1"})
    assert folder_digest(before) != folder_digest(after)


def test_a_link_counts_as_what_it_leads_to(tmp_path: Path) -> None:
    real = fill(tmp_path / "real", {"w": b"1"})
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "w").symlink_to(real / "w")
    assert folder_digest(linked) == folder_digest(real)


def test_nothing_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no files"):
        folder_digest(tmp_path)
    with pytest.raises(TrainingError, match="holds no files"):
        folder_digest(tmp_path / "none")
