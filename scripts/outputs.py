"""What a finished step tells: its record, the workflow's outputs and summary, and one line on what to do next."""

import os
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console

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
    console.print(f"{'[green]✓[/green]' if good else '[yellow]•[/yellow]'} {said}", highlight=False)
    console.print(f"[dim]  {out} · next: {then}[/dim]", highlight=False)


def publish(said: str, outputs: dict[str, str] | None = None) -> None:
    """Append to the workflow's files where they exist; elsewhere do nothing."""
    for name, value in (outputs or {}).items():
        if "\n" in value:
            raise ValueError(f"output {name} has a line break, which GITHUB_OUTPUT would read as another output")
    _append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in (outputs or {}).items()))
    _append("GITHUB_STEP_SUMMARY", f"- {said}\n")


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if path and text:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
