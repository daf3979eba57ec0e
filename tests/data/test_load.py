"""A file that cannot be read is named with its line, and what is written is whole or absent."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.load import read_jsonl, write_jsonl

BROKEN = {
    "empty": (b"", "holds no rows"),
    "only blank lines": (b"\n \n", "holds no rows"),
    "not JSON": (b'{"a":1}\n{"a":\n', "line 2 is not valid JSON"),
    "not an object": (b'{"a":1}\n\n[1]\n', "line 3 is not a JSON object"),
    "not UTF-8": (b'{"a":1}\n{"a":"\xff"}\n', "line 2 is not UTF-8"),
    "nested too deeply": (b"[" * 100_000, "line 1 is not valid JSON"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file_is_named_with_its_line(fault: str, tmp_path: Path) -> None:
    content, said = BROKEN[fault]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_jsonl(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_one_sentence_each(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            read_jsonl(path)


@given(rows=st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), min_size=1))
def test_what_is_written_is_read_again(rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, rows)
    assert read_jsonl(path) == rows


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])
    with pytest.raises(TypeError):
        write_jsonl(path, [{"a": 2}, {"a": object()}])
    assert read_jsonl(path) == [{"a": 1}]
    blocked = tmp_path / "rows.jsonl" / "below.jsonl"
    with pytest.raises(DataError, match="could not be written"):
        write_jsonl(blocked, [{"a": 1}])
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_half_a_character_pair_is_refused_in_one_sentence(tmp_path: Path) -> None:
    source = tmp_path / "half.jsonl"
    source.write_text('{"a":"\\ud800"}\n')
    with pytest.raises(DataError, match="half a character pair"):
        write_jsonl(tmp_path / "out.jsonl", read_jsonl(source))
    assert [p.name for p in tmp_path.iterdir()] == ["half.jsonl"]
