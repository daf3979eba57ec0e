"""The gate's summary for a terminal: the verdict first, why in one sentence, then each metric with its error bar."""

from typing import TYPE_CHECKING

from rich.markup import escape

from eval.verdict import MetricResult, Verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "invalid": "magenta"}
COLOURS |= {"ok": "green", "harm": "red", "undecided": "yellow", "not powered": "yellow"}


def error_bar(low: float, point: float, high: float, *, scale: float, width: int = 31) -> str:
    """An interval drawn on -scale…+scale: ─ the interval, ● the point, │ zero. An odd width gives zero a column."""

    def column(value: float) -> int:
        return round((min(max(value, -scale), scale) / scale + 1) / 2 * (width - 1))

    cells = [" "] * width
    cells[column(0.0)] = "│"
    for at in range(column(low), column(high) + 1):
        cells[at] = "┼" if at == column(0.0) else "─"
    cells[column(point)] = "●"
    return "".join(cells)


def show(verdict: Verdict, console: "Console") -> None:
    """Print the summary."""
    console.print(
        f"[bold {COLOURS[verdict.outcome]}]{verdict.outcome.upper()}[/]  {escape(verdict.reason)}", soft_wrap=True
    )
    if verdict.metrics:
        console.print(_table(verdict, width=min(31, max(9, (console.width - 71) // 2 * 2 + 1))))
    for guard in verdict.guards:
        console.print(f"{_tinted(guard.outcome)}  {escape(guard.reason)}", soft_wrap=True)
    for part in verdict.slices:
        console.print(
            f"  {escape(part.metric)} where {escape(part.tag)}={escape(part.value)}: "
            f"{part.difference:+.3f} (n={part.n}) {_tinted(part.outcome)}"
        )
    counts = verdict.counts
    for name, side in (("candidate", counts.candidate), ("baseline", counts.baseline)):
        if side and (side.model_errors or side.blocked or side.infra_errors):
            console.print(
                f"[dim]{name}: {side.model_errors} of {side.rows} answers failed in the model, "
                f"{side.blocked} were refused by a content filter (both scored worst), "
                f"{side.infra_errors} were lost on the way[/]"
            )
    for caveat in verdict.caveats:
        console.print(f"[yellow]note[/]  {escape(caveat)}", soft_wrap=True)
    if not verdict.bound:
        console.print(
            "[dim]not bound to models: give --candidate-model and --baseline-model to let it be rolled out[/]",
            soft_wrap=True,
        )


def _table(verdict: Verdict, width: int) -> "Table":
    from rich.table import Table

    scale = _scale(verdict.metrics)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1, 0, 0))
    level = f"{1 - 2 * (verdict.alpha or 0):.0%} interval"
    for header in ("", "metric", "from → to", "change", level, f"±{scale:g}", "n"):
        table.add_column(header, no_wrap=True, justify="left" if header in ("", "metric") else "right")
    for metric in verdict.metrics:
        interval = metric.interval or metric.candidate_interval
        bar = ""
        if metric.interval and metric.difference is not None:
            bar = error_bar(metric.interval[0], metric.difference, metric.interval[1], scale=scale, width=width)
        table.add_row(
            _tinted(metric.outcome) if metric.primary else "[dim](shown)[/]",
            escape(metric.name),
            f"{_number(metric.baseline)} → {_number(metric.candidate)}",
            _number(metric.difference, "+.3f"),
            f"{interval[0]:+.3f}…{interval[1]:+.3f}" if interval else "–",
            bar,
            str(metric.n) if metric.n == metric.clusters else f"{metric.n}/{metric.clusters}",
        )
    return table


def _tinted(text: str) -> str:
    return f"[{COLOURS[text]}]{text}[/]"


def _scale(metrics: list[MetricResult]) -> float:
    ends = [abs(end) for metric in metrics if metric.interval for end in metric.interval]
    return max(0.1, -(-max(ends, default=0.1) * 10 // 1) / 10)


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)
