"""What people read: `report`."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.errors import InvalidInput
from scripts.outputs import console

app = typer.Typer()


@app.command()
def report(
    records_folder: Annotated[Path, typer.Option("--records", help="The folder with the records.")] = Path("out"),
    scenario: Annotated[str, typer.Option(help="A name for this run.")] = "release",
    out: Annotated[Path | None, typer.Option("--out", help="The page; default RECORDS/report/index.html.")] = None,
) -> None:
    """Draw the page of this release and print its summary.

    Example: `python -m scripts report --records out/demo`
    """
    from scripts.report import build, summary, terminal_summary

    if not records_folder.is_dir():
        raise InvalidInput(f"{records_folder}: there is no such folder of records.")
    page = build(records_folder, out or records_folder / "report" / "index.html")
    summary(records_folder, scenario)
    terminal_summary(records_folder)
    console.print(f"[dim]  the page: {page}[/dim]", highlight=False)
