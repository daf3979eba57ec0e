"""What a finished step tells: its record, the workflow's outputs and summary, and one line on what to do next."""

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts import records

console = Console(soft_wrap=True)


def finish(
    record: BaseModel, out: Path, *, said: str, then: str, outputs: dict[str, str] | None = None, good: bool = True
) -> None:
    """Write the record and say what happened (`said`, with a tick if that is `good`) and what comes next (`then`).

    `outputs` become `$GITHUB_OUTPUT` lines; `said` becomes a line of `$GITHUB_STEP_SUMMARY`.
    """
    records.write(record, out)
    publish(said, outputs)
    console.print(f"{'[green]✓[/green]' if good else '[yellow]•[/yellow]'} {escape(said)}", highlight=False)
    console.print(f"[dim]  {escape(str(out))} · next: {escape(then)}[/dim]", highlight=False)


def told(sentence: str) -> None:
    """One more line for people, in the terminal and in `$GITHUB_STEP_SUMMARY`."""
    publish(sentence)
    console.print(f"  {escape(sentence)}", highlight=False)


def publish(said: str, outputs: dict[str, str] | None = None) -> None:
    """Append to the workflow's files where they exist; elsewhere do nothing."""
    for name, value in (outputs or {}).items():
        if "\n" in value:
            raise ValueError(f"output {name} has a line break, which GITHUB_OUTPUT would read as another output")
    _append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in (outputs or {}).items()))
    _append("GITHUB_STEP_SUMMARY", f"- {said}\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, terminal: bool = True) -> None:
    """A table for people, in the terminal and in `$GITHUB_STEP_SUMMARY`; nothing when it has no rows.

    One too wide for a terminal (`terminal` False) is only in the summary.
    """
    if not rows:
        return
    drawn = Table(*columns, box=SIMPLE)
    for row in rows:
        drawn.add_row(*map(escape, row))
    if terminal:
        console.print(drawn)
    # In Markdown a bar or a line break would begin another cell or row.
    lines = [[" ".join(cell.split()).replace("|", "&#124;") for cell in line] for line in (columns, *rows)]
    lines.insert(1, ["---"] * len(columns))
    _append("GITHUB_STEP_SUMMARY", "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n")


def summary(markdown: str) -> None:
    """Append Markdown as it is to `$GITHUB_STEP_SUMMARY`; what a stranger wrote in it must be masked already."""
    _append("GITHUB_STEP_SUMMARY", f"\n{markdown}\n")


def one_line(text: str) -> str:
    """A text as an output of a workflow can hold it."""
    return " ".join(text.split())


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if path and text:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
