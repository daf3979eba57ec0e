"""What people read: `report`."""

import re
from pathlib import Path
from typing import Annotated

import typer

from scripts import outputs
from scripts.errors import InvalidInput

app = typer.Typer()
ADDRESS = re.compile(r"https?://[\w.~:/?#@!$&'*+,;=%-]+", re.ASCII)


@app.command()
def report(
    records_folder: Annotated[Path, typer.Option("--records", help="The folder with the records.")] = Path("out"),
    scenario: Annotated[str, typer.Option(help="A name for this run.")] = "release",
    out: Annotated[Path | None, typer.Option("--out", help="The page; default RECORDS/report/index.html.")] = None,
    page_url: Annotated[str, typer.Option("--page-url", help="Where readers find the page; for the summary.")] = "",
) -> None:
    """Draw the page of this release, print its summary, and append it to a workflow job's summary.

    Beside the page goes comment.md, the text for one comment on a pull request that is replaced each time.

    Example: `python -m scripts report --records out/demo`
    """
    from scripts.records import write_bytes
    from scripts.report import build, comment, markdown, summary, terminal_summary

    if not records_folder.is_dir():
        raise InvalidInput(f"{records_folder}: there is no such folder of records.")
    if page_url and not ADDRESS.fullmatch(page_url):
        raise InvalidInput(f"--page-url takes the http(s) address of the page, not {page_url!r}.")
    page = build(records_folder, out or records_folder / "report" / "index.html")
    write_bytes(page.parent / "comment.md", comment(records_folder, page, page_url).encode())
    summary(records_folder, scenario)
    terminal_summary(records_folder)
    outputs.console.print(f"[dim]  the page: {page}[/dim]", highlight=False)
    outputs.summary(markdown(records_folder, page, page_url))
