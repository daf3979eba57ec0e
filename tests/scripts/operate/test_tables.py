"""A table in the summary stays a table, whatever is in its cells."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.outputs import table

CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("|[]\n\\"), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4))
def test_a_row_is_a_line_of_as_many_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, str]]
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("- said\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    table(("what", "why"), rows)
    lines = summary.read_text().removeprefix("- said\n").strip("\n").split("\n")
    assert len(lines) == len(rows) + 2
    assert all(line.count("|") == 3 for line in lines)


def test_no_rows_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    table(("what", "why"), [])
    assert not (tmp_path / "summary.md").exists()
