"""Digests name work: equal bytes, equal name; any other byte, another name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import digests
from scripts.errors import InvalidInput
from training.digest import folder_digest


def test_a_folder_is_its_files_and_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.py").write_text("2")
    first = digests.of_folder(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("compiled")
    assert digests.of_folder(tmp_path) == first
    (tmp_path / "b" / "c.py").rename(tmp_path / "b" / "d.py")
    assert digests.of_folder(tmp_path) != first


def test_a_model_has_the_digest_that_its_training_job_gave_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("config.json", "Z.json", "deep/weights"):
        (tmp_path / name).write_text(name)
    assert digests.of_folder(tmp_path) == folder_digest(tmp_path)


def test_nothing_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no files"):
        digests.of_folder(tmp_path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        digests.of_file(tmp_path / "none")


@given(st.lists(st.text()), st.lists(st.text()))
def test_different_lists_have_different_digests(one: list[str], other: list[str]) -> None:
    assert (digests.of_values(*one) == digests.of_values(*other)) == (one == other)
