"""The page's story in a terminal: headline, why, key figures, the verdict's metrics and the steps of the traffic."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from scripts.report import facts, views
from scripts.report.load import load
from scripts.report.provenance import mismatches
from scripts.report.story import tell

STYLES = {"good": "green", "bad": "red", "warn": "yellow", "info": "cyan", "unsure": "yellow", "": ""}


def terminal_summary(records: Path, console: Console | None = None) -> None:
    """Print the summary of the folder `records`. Raises InvalidInput when it is no folder."""
    found = load(records)
    console = console or Console()
    story = tell(found)
    style = STYLES[story.tone]
    grid = Table.grid(padding=(0, 2))
    for fact in facts.facts(found):
        grid.add_row(Text(fact.label, "dim"), Text(fact.value, STYLES[fact.tone] or "bold"), Text(fact.detail, "dim"))
    next_step = Text("Next: " + story.next.replace("`", ""), "dim")
    body: list[RenderableType] = [Text(story.why), Text(), grid, Text(), next_step]
    title = Text(f" {story.sign} {story.headline} ", f"bold {style}")
    console.print(Panel(Group(*body), title=title, title_align="left", border_style=style, padding=(1, 2)))
    if found.verdict and found.verdict.metrics:
        columns = views.metric_columns(found.verdict)
        table = _table(*columns.values(), "Outcome")
        for row in views.metric_rows(found.verdict):
            table.add_row(*(Text(row[key]) for key in columns), Text(row["outcome"], STYLES[row["tone"]]))
        console.print(table)
    if found.rollout and found.rollout.steps:
        pair = " / ".join(views.sides(found.rollout))
        table = _table("Weight", f"Requests {pair}", f"Errors {pair}", "Decision")
        for row in views.step_rows(found.rollout):
            cells = [row[key] for key in ("weight", "requests", "errors")]
            table.add_row(*map(Text, cells), Text(row["decision"], STYLES[row["tone"]]))
        console.print(table)
    for notice in [*found.problems, *mismatches(found)]:
        console.print(Text(f"! {notice}", "yellow"))


def _table(*headers: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 2))
    for place, header in enumerate(headers):
        last = place == len(headers) - 1
        table.add_column(Text(header), justify="left" if place == 0 or last else "right")
    return table
