"""The page that a release manager reads, its summary for the terminal and `summary.json` for machines.

`build` writes the page, `terminal_summary` prints the same story, `summary` writes the figures that a check reads.
All take a folder with any subset of the train's records. Heavy libraries are imported only when one is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def build(records: Path, out: Path) -> Path:
    """Write one self-contained page to `out` (a .html file or a folder) and return its path.

    Raises scripts.errors.InvalidInput when `records` is no folder or the page cannot be written.
    """
    from scripts.report.page import build as build_page

    return build_page(records, out)


def terminal_summary(records: Path) -> None:
    """Print headline, key figures, verdict and traffic. Raises InvalidInput when `records` is no folder."""
    from scripts.report.terminal import terminal_summary as print_summary

    print_summary(records)


def summary(records: Path, scenario: str) -> dict[str, Any]:
    """Write `summary.json` into `records` and return it. Raises InvalidInput when `records` is no folder."""
    from scripts.report.summary import summary as write_summary

    return write_summary(records, scenario)


def comment(records: Path, page: Path, url: str = "") -> str:
    """Verdict and metrics for one comment on a pull request. Raises InvalidInput when `records` is no folder."""
    from scripts.report.load import load
    from scripts.report.markdown import comment as write_comment

    return write_comment(load(records), page.as_posix(), url)


def markdown(records: Path, page: Path, url: str = "") -> str:
    """The same story for the summary of a workflow's job. Raises InvalidInput when `records` is no folder."""
    from scripts.report.load import load
    from scripts.report.markdown import markdown as write_markdown

    return write_markdown(load(records), page.as_posix(), url)
